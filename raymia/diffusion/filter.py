"""Which generated images are kept, and under which label: a classifier's confidence decides (paper 1, Fig. 1 and 2)."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from raymia.errors import InputError, RunError

KEPT, DISAGREES, BELOW_THRESHOLD = 0, 1, 2
REASONS = ("kept", "disagrees with its condition", "below the threshold")
# Temperatures that `calibrate` looks between: labels that are all right would drive it to 0, all wrong to infinity.
COLDEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True)
class Judged:
    """The verdict on N images. labels: int64[N]. confidence: float32[N]. reason: int8[N], an index into REASONS."""

    labels: NDArray[np.int64]
    confidence: NDArray[np.float32]
    reason: NDArray[np.int8]


@dataclass(frozen=True)
class Filter:
    """How a classifier's logits become labels and verdicts.

    labels: `pseudo` takes the classifier's class and its probability, whatever the image was generated as; `agree` does
    so too and rejects where that class is not the condition; `condition` takes the condition and the probability the
    classifier gives it. threshold: the smallest confidence that is kept (paper 1: 0.85; 0 keeps all).
    temperature: divides the logits, see `calibrate`.
    """

    labels: Literal["pseudo", "agree", "condition"]
    threshold: float
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.labels not in ("pseudo", "agree", "condition"):
            raise InputError(f"labels of the filter: must be pseudo, agree or condition, got {self.labels!r}")
        if not 0 <= self.threshold <= 1:
            raise InputError(f"threshold of the filter: must be between 0 and 1, got {self.threshold}")
        if not 0 < self.temperature < np.inf:
            raise InputError(f"temperature of the filter: must be above 0, got {self.temperature}")

    def judge(self, logits_NK: NDArray[np.float32], conditions: NDArray[np.int64] | None) -> Judged:
        """The verdict on each image. conditions: int64[N], the classes they were generated as, None without any.

        Each verdict depends on its own row alone. Raises InputError where conditions are needed and there are none,
        RunError for logits that are not finite.
        """
        if self.labels != "pseudo" and conditions is None:
            raise InputError(
                f"labels of the filter: {self.labels} needs a conditional generator; set diffusion.conditional to "
                "true, or the labels to pseudo"
            )
        if not np.isfinite(logits_NK).all():
            raise RunError("the classifier of the filter gave logits that are not finite: train it with other settings")
        probabilities_NK = softmax(logits_NK.astype(np.float64) / self.temperature, axis=1)
        if self.labels == "condition":
            labels = np.asarray(conditions, dtype=np.int64)
        else:
            labels = probabilities_NK.argmax(axis=1).astype(np.int64)
        confidence = probabilities_NK[np.arange(len(labels)), labels].astype(np.float32)
        # As stored: whoever filters the stored confidences once more finds the same.
        reason = np.where(confidence.astype(np.float64) >= self.threshold, KEPT, BELOW_THRESHOLD)
        if self.labels == "agree":
            reason = np.where(labels == conditions, reason, DISAGREES)
        return Judged(labels, confidence, reason.astype(np.int8))


def calibrate(logits_NK: NDArray[Any], labels_N: NDArray[np.integer[Any]]) -> float:
    """The temperature that makes a classifier's confidence fit its accuracy: the least negative log-likelihood.

    Of records that the classifier was not trained on: on its own it looks surer than it is. Between COLDEST and
    HOTTEST.
    Source: Guo et al., On calibration of modern neural networks, ICML 2017, §4.2. Raises InputError without records.
    """
    if logits_NK.ndim != 2 or len(logits_NK) != len(labels_N) or not len(labels_N):
        raise InputError(f"calibration needs one label a row of logits, got {logits_NK.shape} and {len(labels_N)}")
    rows = np.arange(len(labels_N))

    def loss(log_temperature: float) -> float:
        scaled_NK = logits_NK.astype(np.float64) / np.exp(log_temperature)
        return -float(log_softmax(scaled_NK, axis=1)[rows, labels_N].mean())

    # The loss is convex in 1/T, so it has one valley in log T.
    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))
