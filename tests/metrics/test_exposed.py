"""The false positive rate at which a record is caught."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.errors import InputError
from raymia.metrics.comparison import Scored
from raymia.metrics.exposed import caught_at, exposed_records
from raymia.metrics.roc import tpr_at_fpr


def test_a_member_is_caught_with_the_nonmembers_at_or_above_it() -> None:
    scores = np.array([5.0, 3.0, 3.0, 1.0, 0.0, 3.0])
    member = np.array([True, True, False, False, False, False])
    # None of four non-members is at 5 or above, two are at 3 or above; one more is taken as unseen.
    np.testing.assert_allclose(caught_at(scores, member), [1 / 5, 3 / 5])


@given(seed=st.integers(0, 1000), nonmembers=st.integers(10, 200))
def test_it_is_the_roc_read_from_the_other_side(seed: int, nonmembers: int) -> None:
    rng = np.random.default_rng(seed)
    member = np.arange(nonmembers + 40) < 40
    scores = np.round(rng.normal(size=len(member)) + member, 1)
    rates = (caught_at(scores, member) * (nonmembers + 1) - 1) / nonmembers
    for target in (0.1, 0.3):
        assert np.mean(rates <= target + 1e-12) == pytest.approx(tpr_at_fpr(scores, member, target).tpr)


def scored(positions: list[int], scores: list[float], members: list[int]) -> Scored:
    return Scored(np.array(positions), np.array(scores), np.isin(positions, members))


def test_targets_are_averaged_over_those_that_trained_on_the_record() -> None:
    one = scored([1, 2, 3, 4], [9.0, 0.0, 1.0, 2.0], [1, 2])
    two = scored([1, 5, 3, 4], [0.0, 9.0, 1.0, 2.0], [1, 5])
    found = exposed_records({"none": [one, two], "mixup": [one]})
    np.testing.assert_array_equal(found.positions, [1, 2, 5])
    np.testing.assert_array_equal(found.targets_RS, [[2, 1], [1, 1], [1, 0]])
    third = 1 / 3
    np.testing.assert_allclose(found.caught_at_RS[:, 0], [np.sqrt(third), 1.0, third])
    np.testing.assert_allclose(found.caught_at_RS[:2, 1], [third, 1.0])
    assert np.isnan(found.caught_at_RS[2, 1])
    assert found.positions[found.order("none")].tolist() == [5, 1, 2]
    assert found.positions[found.order("mixup")].tolist() == [1, 2, 5]


def test_of_equally_exposed_records_the_others_settings_decide() -> None:
    none = scored([1, 2, 3, 4], [9.0, 9.0, 1.0, 2.0], [1, 2])
    mixup = scored([1, 2, 3, 4], [0.0, 9.0, 1.0, 2.0], [1, 2])
    found = exposed_records({"none": [none], "mixup": [mixup]})
    assert found.positions[found.order("none")].tolist() == [2, 1]


def test_nothing_scored_is_refused() -> None:
    with pytest.raises(InputError, match="nothing was scored"):
        exposed_records({"none": []})
