from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.attacks.group_statistics import GroupMoments, group_mean, group_median, group_moments


@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 6), st.integers(1, 3))
def test_the_same_as_one_record_at_a_time(seed: int, models: int, records: int, queries: int) -> None:
    rng = np.random.default_rng(seed)
    values_MNQ = rng.normal(3, 10, (models, records, queries))
    mask_MN = rng.random((models, records)) < rng.choice([0.2, 0.5, 0.9])
    moments, median_NQ = group_moments(values_MNQ, mask_MN), group_median(values_MNQ, mask_MN)
    assert moments.mean_NQ.shape == moments.variance_NQ.shape == median_NQ.shape == (records, queries)
    for record in range(records):
        group_KQ = values_MNQ[mask_MN[:, record], record]
        assert moments.count_N[record] == len(group_KQ)
        assert moments.freedom[record] == max(len(group_KQ) - 1, 0)
        if len(group_KQ):
            assert moments.mean_NQ[record] == pytest.approx(group_KQ.mean(axis=0))
            assert np.array_equal(median_NQ[record], np.median(group_KQ, axis=0))
        else:
            assert np.isnan(moments.mean_NQ[record]).all()
            assert np.isnan(median_NQ[record]).all()
        wanted_Q: Any = group_KQ.var(axis=0, ddof=1) if len(group_KQ) > 1 else np.zeros(queries)
        assert moments.variance_NQ[record] == pytest.approx(wanted_Q)


@pytest.mark.parametrize("records", [1, 2, 33])
def test_figures_do_not_depend_on_the_records_beside(records: int) -> None:
    rng = np.random.default_rng(0)
    values_MNQ, mask_MN = rng.normal(size=(300, 33, 2)), rng.random((300, 33)) < 0.5
    whole = group_moments(values_MNQ, mask_MN)
    for start in range(0, 33, records):
        rows = slice(start, start + records)
        part = group_moments(values_MNQ[:, rows], mask_MN[:, rows])
        assert np.array_equal(part.mean_NQ, whole.mean_NQ[rows])
        assert np.array_equal(part.variance_NQ, whole.variance_NQ[rows])
        median_NQ = group_median(values_MNQ[:, rows], mask_MN[:, rows])
        assert np.array_equal(median_NQ, group_median(values_MNQ, mask_MN)[rows])


def test_parts_join_in_order() -> None:
    rng = np.random.default_rng(0)
    values_MNQ, mask_MN = rng.normal(size=(5, 10, 2)), rng.random((5, 10)) < 0.7
    parts = [group_moments(values_MNQ[:, rows], mask_MN[:, rows]) for rows in (slice(0, 3), slice(3, 10))]
    joined, whole = GroupMoments.joined(parts), group_moments(values_MNQ, mask_MN)
    assert np.array_equal(joined.count_N, whole.count_N)
    assert np.array_equal(joined.mean_NQ, whole.mean_NQ, equal_nan=True)
    assert np.array_equal(joined.variance_NQ, whole.variance_NQ)


def test_a_far_away_value_loses_no_digits() -> None:
    values_MNQ = 1e8 + np.array([0.0, 1.0, 2.0])[:, None, None]
    assert group_moments(values_MNQ, np.ones((3, 1), bool)).variance_NQ[0, 0] == 1.0


def test_models_outside_the_group_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    values_MNQ, mask_MN = rng.normal(size=(6, 4, 1)), rng.random((6, 4)) < 0.5
    others_MNQ = np.where(mask_MN[:, :, None], values_MNQ, 1e4)
    assert np.array_equal(group_mean(values_MNQ, mask_MN), group_mean(others_MNQ, mask_MN), equal_nan=True)
    assert np.array_equal(group_median(values_MNQ, mask_MN), group_median(others_MNQ, mask_MN), equal_nan=True)
