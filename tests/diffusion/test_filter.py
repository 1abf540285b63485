"""The filter's verdicts against ones worked out by hand, and its temperature against a known one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raymia.diffusion.filter import BELOW_THRESHOLD, COLDEST, DISAGREES, HOTTEST, KEPT, Filter, calibrate
from raymia.errors import InputError, RunError

# Probabilities whose logarithms are the logits: softmax gives them back.
PROBABILITIES_NK = np.array([[0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4]])
LOGITS_NK = np.log(PROBABILITIES_NK).astype(np.float32)
CONDITIONS = np.array([0, 1, 2, 2])


@pytest.mark.parametrize(
    ("labels", "expected_labels", "expected_confidence", "expected_reason"),
    [
        ("pseudo", [0, 1, 1, 2], [0.9, 0.7, 0.9, 0.4], [KEPT, BELOW_THRESHOLD, KEPT, BELOW_THRESHOLD]),
        ("agree", [0, 1, 1, 2], [0.9, 0.7, 0.9, 0.4], [KEPT, BELOW_THRESHOLD, DISAGREES, BELOW_THRESHOLD]),
        ("condition", [0, 1, 2, 2], [0.9, 0.7, 0.05, 0.4], [KEPT, *[BELOW_THRESHOLD] * 3]),
    ],
)
def test_verdicts_worked_out_by_hand(
    labels: Any, expected_labels: list[int], expected_confidence: list[float], expected_reason: list[int]
) -> None:
    judged = Filter(labels, 0.85).judge(LOGITS_NK, CONDITIONS)
    assert judged.labels.tolist() == expected_labels
    assert judged.confidence == pytest.approx(expected_confidence, rel=1e-6)
    assert judged.reason.tolist() == expected_reason
    assert (judged.labels.dtype, judged.confidence.dtype, judged.reason.dtype) == (np.int64, np.float32, np.int8)


def test_the_temperature_divides_the_logits() -> None:
    judged = Filter("pseudo", 0.0, temperature=2.0).judge(LOGITS_NK, None)
    roots_NK = np.sqrt(PROBABILITIES_NK)
    assert judged.confidence == pytest.approx((roots_NK / roots_NK.sum(axis=1, keepdims=True)).max(axis=1), rel=1e-6)


def test_a_confidence_equal_to_the_threshold_is_kept() -> None:
    even = np.zeros((1, 2), dtype=np.float32)
    assert Filter("pseudo", 0.5).judge(even, None).reason.tolist() == [KEPT]
    assert Filter("pseudo", np.nextafter(0.5, 1)).judge(even, None).reason.tolist() == [BELOW_THRESHOLD]
    assert Filter("pseudo", 1.0).judge(np.array([[100.0, 0.0]], np.float32), None).reason.tolist() == [KEPT]


FINITE = hnp.arrays(np.float32, (7, 4), elements=st.floats(-50, 50, width=32))


@given(logits_NK=FINITE, threshold=st.floats(0, 1), labels=st.sampled_from(["pseudo", "agree", "condition"]))
def test_a_verdict_depends_on_its_own_row_and_a_higher_threshold_keeps_fewer(
    logits_NK: Any, threshold: float, labels: Any
) -> None:
    conditions = np.arange(7) % 4
    judged = Filter(labels, threshold).judge(logits_NK, conditions)
    alone = [Filter(labels, threshold).judge(logits_NK[row : row + 1], conditions[row : row + 1]) for row in range(7)]
    assert [one.labels[0] for one in alone] == judged.labels.tolist()
    assert [one.confidence[0] for one in alone] == judged.confidence.tolist()
    assert [one.reason[0] for one in alone] == judged.reason.tolist()
    stricter = Filter(labels, min(1.0, threshold + 0.1)).judge(logits_NK, conditions)
    assert set(np.flatnonzero(stricter.reason == KEPT)) <= set(np.flatnonzero(judged.reason == KEPT))
    assert (Filter(labels, 0.0).judge(logits_NK, conditions).reason != BELOW_THRESHOLD).all()


@pytest.mark.parametrize("labels", ["agree", "condition"])
def test_conditions_are_needed_where_they_count(labels: Any) -> None:
    with pytest.raises(InputError, match=r"diffusion\.conditional"):
        Filter(labels, 0.5).judge(LOGITS_NK, None)


@pytest.mark.parametrize("wrong", [("argmax", 0.5, 1.0), ("pseudo", 1.5, 1.0), ("pseudo", 0.5, 0.0)])
def test_settings_out_of_range_are_named(wrong: Any) -> None:
    with pytest.raises(InputError, match="of the filter"):
        Filter(*wrong)


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(RunError, match="not finite"):
        Filter("pseudo", 0.0).judge(np.array([[1.0, np.nan]], dtype=np.float32), None)


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_calibration_finds_the_temperature_of_data_drawn_with_it(true: float) -> None:
    rng = np.random.default_rng(0)
    logits_NK = rng.normal(0, 3, size=(40_000, 5))
    gumbel_NK = rng.gumbel(size=logits_NK.shape)
    labels = (logits_NK / true + gumbel_NK).argmax(axis=1)  # a draw from softmax(logits / true)
    assert calibrate(logits_NK.astype(np.float32), labels) == pytest.approx(true, rel=0.03)


def test_calibration_of_labels_all_right_or_all_wrong_stays_in_bounds() -> None:
    logits_NK = np.eye(3, dtype=np.float32).repeat(4, axis=0)
    right = logits_NK.argmax(axis=1)
    assert calibrate(logits_NK, right) == pytest.approx(COLDEST, rel=1e-3)
    assert calibrate(logits_NK, (right + 1) % 3) == pytest.approx(HOTTEST, rel=1e-3)


def test_calibration_without_records_is_refused() -> None:
    with pytest.raises(InputError, match="calibration"):
        calibrate(np.zeros((0, 3)), np.zeros(0, dtype=np.int64))
