"""Robust accuracy and its interval, of one target and of several."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.errors import InputError
from raymia.metrics.intervals import wilson
from raymia.metrics.robustness import RobustAccuracy, measure_robustness, pool_robustness

ANSWERS = st.lists(st.booleans(), min_size=1, max_size=60)


def test_one_target_has_wilsons_interval() -> None:
    found = measure_robustness(np.array([True] * 3 + [False] * 17), ["careful"])
    # Wilson 1927 for 3 of 20, by hand: (0.15 + 1.96²/40 ± …) / (1 + 1.96²/20).
    assert (found.accuracy, found.images, found.warnings) == (0.15, 20, ("careful",))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3604), abs=1e-4)


def test_several_targets_have_students() -> None:
    targets = [measure_robustness(np.arange(10) < count) for count in (2, 4, 6)]
    found = pool_robustness(targets)
    # Mean 0.4, SD 0.2, t(2) = 4.3027: ± 0.4968, cut at 0.
    assert found.accuracy == pytest.approx(0.4)
    assert (found.low, found.high) == pytest.approx((0.0, 0.8968), abs=1e-4)
    assert found.images == 30


@pytest.mark.parametrize("right", [0, 2, 3, 10])
def test_equal_targets_keep_the_records_doubt(right: int) -> None:
    """Whatever their mean is rounded to."""
    found = pool_robustness([measure_robustness(np.arange(10) < right)] * 3)
    expected = wilson(right / 10, 10)
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.low < found.high


@given(st.lists(ANSWERS, min_size=1, max_size=5))
def test_the_interval_holds_the_accuracy_and_lies_in_the_range(answers: list[list[bool]]) -> None:
    targets = [measure_robustness(np.array(one), ["a"]) for one in answers]
    for found in (*targets, pool_robustness(targets)):
        assert 0 <= found.low <= found.accuracy <= found.high <= 1
        assert RobustAccuracy.from_dict(found.to_dict()) == found
        assert found.warnings == ("a",)


@pytest.mark.parametrize("answers", [np.zeros(0, dtype=bool), np.zeros(3), np.zeros((2, 2), dtype=bool)])
def test_what_is_no_list_of_answers_is_refused(answers: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"give bool\[N\]"):
        measure_robustness(answers)


def test_no_target_is_refused() -> None:
    with pytest.raises(InputError, match="measure at least one target"):
        pool_robustness([])
