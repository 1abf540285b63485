"""Whom an attack catches over several targets: against the ROC, against targets drawn by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.errors import InputError
from raymia.metrics.caught import TargetAnswers, draw_setting, spread, target_draws
from raymia.metrics.intervals import t_interval
from raymia.metrics.roc import tpr_at_fpr

BINS = 4


def made(seed: int, records: int = 60, ties: int = 1) -> tuple[TargetAnswers, np.ndarray]:
    """A target whose members score higher the more they are memorized, and the bin of each record."""
    rng = np.random.default_rng(seed)
    member = np.arange(records) % 2 == 0
    memorization = np.round(rng.uniform(-0.2, 1, records), 2)
    scores = np.round(rng.normal(size=records) + 2 * member * memorization, ties)
    right = rng.random(records) < np.where(member, 0.9, 0.6)
    return TargetAnswers(scores, member, right, memorization), rng.integers(0, BINS, records)


def once(targets: int) -> np.ndarray:
    return np.ones((1, targets), dtype=np.int64)


@given(seed=st.integers(0, 2000), fpr=st.sampled_from([0.02, 0.1, 0.34]), ties=st.integers(0, 2))
def test_each_bin_is_the_roc_of_its_members_against_all_nonmembers(seed: int, fpr: float, ties: int) -> None:
    targets, bins = zip(*(made(seed + number, ties=ties) for number in range(3)), strict=True)
    found = draw_setting(targets, bins, BINS, fpr, once(3))
    scores = np.concatenate([one.scores for one in targets])
    member = np.concatenate([one.member for one in targets])
    place = np.concatenate(bins)
    for number in range(BINS):
        kept = ~member | (place == number)
        if (member & kept).any():
            expected = tpr_at_fpr(scores[kept], member[kept], fpr).tpr
            assert found.tpr_RB[0, number] == pytest.approx(expected)
    right = np.concatenate([one.right for one in targets])
    for rates, whose in ((found.train_RB, member), (found.test_RB, ~member)):
        expected_rates = [right[whose & (place == number)].mean() for number in range(BINS)]
        np.testing.assert_allclose(rates[0], expected_rates)


@given(seed=st.integers(0, 2000), times=st.lists(st.integers(0, 2), min_size=3, max_size=3).filter(any))
def test_a_draw_is_the_measurement_on_the_targets_drawn(seed: int, times: list[int]) -> None:
    targets, bins = zip(*(made(seed + number, 40 + 2 * number) for number in range(3)), strict=True)
    drawn = [number for number, count in enumerate(times) for _ in range(count)]
    found = draw_setting(targets, bins, BINS, 0.1, np.array([[1, 1, 1], times]))
    again = draw_setting([targets[n] for n in drawn], [bins[n] for n in drawn], BINS, 0.1, once(len(drawn)))
    np.testing.assert_allclose(found.tpr_RB[1], again.tpr_RB[0])
    np.testing.assert_allclose(found.train_RB[1], again.train_RB[0])
    np.testing.assert_allclose(found.test_RB[1], again.test_RB[0])
    np.testing.assert_allclose(found.slope_R[1], again.slope_R[0], atol=1e-12)
    np.testing.assert_allclose(found.caught_R[1], again.caught_R[0], atol=1e-12)


def test_slope_and_mean_are_those_of_the_caught_members() -> None:
    targets, bins = zip(*(made(number) for number in range(3)), strict=True)
    found = draw_setting(targets, bins, BINS, 0.1, once(3))
    unseen = np.sort(np.concatenate([one.scores[~one.member] for one in targets]))[::-1]
    # 9 of 90 non-members may be above the threshold: the tenth highest stays outside.
    caught = np.concatenate([one.scores[one.member] > unseen[9] for one in targets])
    memorization = np.concatenate([one.memorization[one.member] for one in targets])
    assert 0 < caught.sum() < len(caught)
    assert found.slope_R[0] == pytest.approx(np.polyfit(memorization, caught.astype(float), 1)[0])
    assert found.caught_R[0] == pytest.approx(memorization[caught].mean())


def test_members_that_tie_with_the_nonmember_too_many_are_not_caught() -> None:
    member = np.array([True, True, True, False, False, False])
    target = TargetAnswers(np.array([9.0, 5.0, 1.0, 5.0, 1.0, 0.0]), member, member, np.zeros(6))
    bins = [np.zeros(6, dtype=np.int64)]
    # One in three non-members may be called: at 5 one is, at 1 two would be.
    for fpr, expected in ((0.3, 1 / 3), (0.34, 2 / 3), (0.67, 1.0)):
        assert draw_setting([target], bins, 1, fpr, once(1)).tpr_RB[0, 0] == pytest.approx(expected)
    surest = TargetAnswers(np.array([np.inf, 5.0, 1.0, np.inf, 1.0, -np.inf]), member, member, np.zeros(6))
    nobody = draw_setting([surest], bins, 1, 0.3, once(1))
    assert nobody.tpr_RB[0, 0] == 0
    assert np.isnan(nobody.caught_R[0])
    assert np.isnan(nobody.slope_R[0])


def test_bins_without_records_have_no_rates() -> None:
    target, _ = made(0)
    found = draw_setting([target], [np.zeros(60, dtype=np.int64)], 2, 0.1, once(1))
    assert np.isnan([found.tpr_RB[0, 1], found.train_RB[0, 1], found.test_RB[0, 1]]).all()
    assert not np.isnan([found.tpr_RB[0, 0], found.train_RB[0, 0], found.test_RB[0, 0]]).any()


def test_a_target_of_members_alone_is_refused() -> None:
    alone = TargetAnswers(np.zeros(3), np.ones(3, dtype=bool), np.ones(3, dtype=bool), np.zeros(3))
    with pytest.raises(InputError, match="a metric needs both kinds"):
        draw_setting([alone], [np.zeros(3, dtype=np.int64)], 1, 0.1, once(1))


def test_targets_are_drawn_as_often_as_there_are() -> None:
    times = target_draws(5, 200, np.random.default_rng(0))
    assert times.shape == (201, 5)
    assert (times[0] == 1).all()
    assert (times.sum(axis=1) == 5).all()
    assert len(np.unique(times, axis=0)) > 50


@pytest.mark.parametrize("values", [[0.1, 0.5, 0.4], [0.2, 0.3]])
def test_over_every_possible_draw_the_interval_is_students(values: list[float]) -> None:
    count = len(values)
    means = [np.mean([values[one] for one in drawn]) for drawn in product(range(count), repeat=count)]
    found = spread(np.array([np.mean(values), *means]), count)
    expected = t_interval(values)
    assert found is not None
    assert expected is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_draws_that_hold_nothing_are_left_out_and_nothing_measured_has_no_interval() -> None:
    nan = float("nan")
    with_holes, without = (spread(np.array([0.4, *draws]), 3) for draws in ([0.2, nan, 0.6], [0.2, 0.6]))
    assert with_holes == without
    assert spread(np.array([nan, 0.2, 0.6]), 3) is None
    assert spread(np.array([0.4, nan, nan]), 3) is None
    assert spread(np.array([0.4, 0.2, 0.6]), 1) is None
    agreeing = spread(np.array([0.3, 0.1 + 0.2, 0.3]), 3)
    assert agreeing is not None
    assert agreeing.width == 0
