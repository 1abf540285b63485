"""What a model is good for: accuracy on members and on unseen records, their gap, and calibration."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from raymia.errors import InputError
from raymia.metrics.intervals import fraction_interval, wilson

ECE_BINS = 15


@dataclass(frozen=True)
class Utility:
    """Utility on unaugmented records; all fractions.

    generalization_gap: train_accuracy - test_accuracy. test_accuracy_low/high: 95%, Wilson's interval of the records
    for one target, Student t over targets for several. ece: of the test records. targets: models averaged over.
    train_records, test_records: answers counted, over all targets.
    """

    train_accuracy: float
    test_accuracy: float
    generalization_gap: float
    test_accuracy_low: float
    test_accuracy_high: float
    ece: float
    train_records: int
    test_records: int
    targets: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives the equal object back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Utility":
        return cls(**values)


def accuracy(logits_NC: ArrayLike, labels_N: ArrayLike) -> float:
    """The fraction of records whose largest logit is at their label (of equal logits the lowest class counts)."""
    logits, labels = _checked(logits_NC, labels_N)
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def expected_calibration_error(logits_NC: ArrayLike, labels_N: ArrayLike, bins: int = ECE_BINS) -> float:
    """ECE: the mean over records of |accuracy - confidence| of their bin (Guo et al. 2017, eq. 3).

    Confidence: the largest softmax probability, in float64. Bins of equal width over [0, 1]; an upper edge belongs
    to the bin below it.
    """
    logits, labels = _checked(logits_NC, labels_N)
    confidence = special.softmax(logits, axis=1).max(axis=1)
    right = (np.argmax(logits, axis=1) == labels).astype(np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(place, weights=right - confidence, minlength=bins)).sum() / len(labels))


def measure_utility(
    train_logits_NC: ArrayLike, train_labels_N: ArrayLike, test_logits_NC: ArrayLike, test_labels_N: ArrayLike
) -> Utility:
    """Utility of one model. logits: float[N, C] of unaugmented records, labels: int[N].

    Raises InputError for shapes that differ, labels out of range, NaN or +inf logits.
    """
    train = accuracy(train_logits_NC, train_labels_N)
    test = accuracy(test_logits_NC, test_labels_N)
    records = len(np.asarray(test_labels_N))
    interval = wilson(test, records)
    return Utility(
        train_accuracy=train,
        test_accuracy=test,
        generalization_gap=train - test,
        test_accuracy_low=interval.low,
        test_accuracy_high=interval.high,
        ece=expected_calibration_error(test_logits_NC, test_labels_N),
        train_records=len(np.asarray(train_labels_N)),
        test_records=records,
    )


def pool_utilities(utilities: Sequence[Utility]) -> Utility:
    """The mean over targets with Student's t interval; a single target keeps its own."""
    if not utilities:
        raise InputError("utilities: none given; measure at least one target")
    if len(utilities) == 1:
        return utilities[0]
    accuracies = [one.test_accuracy for one in utilities]
    interval = fraction_interval(accuracies, min(one.test_records for one in utilities))
    return Utility(
        train_accuracy=float(np.mean([one.train_accuracy for one in utilities])),
        test_accuracy=float(np.mean(accuracies)),
        generalization_gap=float(np.mean([one.generalization_gap for one in utilities])),
        test_accuracy_low=interval.low,
        test_accuracy_high=interval.high,
        ece=float(np.mean([one.ece for one in utilities])),
        train_records=sum(one.train_records for one in utilities),
        test_records=sum(one.test_records for one in utilities),
        targets=sum(one.targets for one in utilities),
    )


def _checked(logits_NC: ArrayLike, labels_N: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    logits, labels = np.asarray(logits_NC, dtype=np.float64), np.asarray(labels_N)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.size:
        raise InputError(f"logits {logits.shape} and labels {labels.shape}: give [N, C] and [N], N and C above 0")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise InputError(f"labels: give integers from 0 to {logits.shape[1] - 1}, as many classes as logits")
    if not np.isfinite(logits.max(axis=1)).all():
        raise InputError("logits: NaN, +inf or only -inf in a row; the model has diverged, lower its learning rate")
    return logits, labels.astype(np.int64)
