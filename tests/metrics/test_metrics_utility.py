import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.errors import InputError
from raymia.metrics.utility import (
    Utility,
    accuracy,
    expected_calibration_error,
    measure_utility,
    pool_utilities,
)


def logits_of(confidence: float, classes: int = 2) -> NDArray[np.float64]:
    """Logits whose first class has this probability, the others share the rest."""
    rest = np.full(classes - 1, (1 - confidence) / (classes - 1))
    return np.log(np.concatenate([[confidence], rest]))


def test_accuracy_counts_the_largest_logit() -> None:
    assert accuracy([[2.0, 1.0], [0.0, 5.0], [1.0, 0.0]], [0, 1, 1]) == pytest.approx(2 / 3)


def test_ece_known_answer() -> None:
    # Bin of 0.7 (10 records, 6 right): |0.6 - 0.7|; bin of 0.95 (30 records, 30 right): |1 - 0.95|.
    logits = np.stack([logits_of(0.7)] * 10 + [logits_of(0.95)] * 30)
    labels = np.array([0] * 6 + [1] * 4 + [0] * 30)
    assert expected_calibration_error(logits, labels) == pytest.approx((10 * 0.1 + 30 * 0.05) / 40)


def test_ece_does_not_let_bins_cancel() -> None:
    # Too sure in one bin, too unsure in another, by as much: the plain mean would be zero.
    logits = np.stack([logits_of(0.7)] * 10 + [logits_of(0.9)] * 10)
    labels = np.array([0] * 9 + [1] + [0] * 7 + [1] * 3)
    assert expected_calibration_error(logits, labels) == pytest.approx(0.2)


def test_ece_is_computed_in_float64() -> None:
    sure = np.array([[40.0, 0.0], [0.0, -np.inf]], dtype=np.float32)
    assert expected_calibration_error(sure, np.array([0, 0])) == pytest.approx(np.exp(-40.0) / 2, rel=1e-1, abs=1e-16)
    assert expected_calibration_error(sure * np.float32(1), np.array([1, 1])) == pytest.approx(1.0)


@given(st.integers(0, 10_000))
def test_ece_ignores_a_shift_of_the_logits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(30, 4)) * 3, rng.integers(0, 4, 30)
    ece = expected_calibration_error(logits, labels)
    assert 0 <= ece <= 1
    assert expected_calibration_error(logits + rng.normal(size=(30, 1)), labels) == pytest.approx(ece, abs=1e-9)


def utility(test_right: int, train_right: int = 20) -> Utility:
    sure = np.stack([logits_of(0.9)] * 20)
    labels = [np.array([0] * right + [1] * (20 - right)) for right in (train_right, test_right)]
    return measure_utility(sure, labels[0], sure, labels[1])


def test_utility_of_one_target() -> None:
    one = utility(test_right=15)
    assert (one.train_accuracy, one.test_accuracy, one.generalization_gap) == (1.0, 0.75, 0.25)
    assert one.ece == pytest.approx(0.15)
    # Wilson for 15 of 20.
    assert (one.test_accuracy_low, one.test_accuracy_high) == pytest.approx((0.5313, 0.8881), abs=5e-5)
    assert pool_utilities([one]) == one


def test_utility_over_targets_is_student_t() -> None:
    pooled = pool_utilities([utility(14), utility(15), utility(16)])
    half = 4.302653 * 0.05 / np.sqrt(3)
    assert pooled.test_accuracy == pytest.approx(0.75)
    assert pooled.test_accuracy_low == pytest.approx(0.75 - half, abs=1e-6)
    assert pooled.test_accuracy_high == pytest.approx(0.75 + half, abs=1e-6)
    assert (pooled.targets, pooled.test_records) == (3, 60)


def test_equal_targets_are_not_certainty() -> None:
    pooled = pool_utilities([utility(20), utility(20)])
    assert pooled.test_accuracy_low < 1 == pooled.test_accuracy_high


def test_json_round_trip() -> None:
    one = utility(13)
    assert Utility.from_dict(json.loads(json.dumps(one.to_dict()))) == one


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[0.0, np.nan]], [0], "diverged"),
        ([[0.0, np.inf]], [0], "diverged"),
        ([[-np.inf, -np.inf]], [0], "diverged"),
        ([[0.0, 1.0]], [2], "labels"),
        ([[0.0, 1.0]], [-1], "labels"),
        ([[0.0, 1.0]], [0.0], "integers"),
        ([[0.0, 1.0]], [0, 1], r"\[N, C\]"),
        ([0.0, 1.0], [0, 1], r"\[N, C\]"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), r"\[N, C\]"),
    ],
)
def test_bad_logits_are_refused(logits: object, labels: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        accuracy(logits, labels)  # type: ignore[arg-type]


def test_pooling_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="none given"):
        pool_utilities([])
