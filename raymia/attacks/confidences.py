"""What attacks by reference models compare: the target's confidence in a record beside the reference models'."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from raymia.attacks.posteriors import scaled_confidence
from raymia.attacks.protocol import Signals
from raymia.attacks.references import Measure, measured_queries
from raymia.errors import InputError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LARGEST_CONFIDENCE = 1e4
"""A posterior of exactly 0 or 1 has an infinite phi, with which no mean or variance can be taken: it counts as this."""


def bounded_confidence(logits_NC: NDArray[np.float32], labels_N: NDArray[np.int64]) -> Floats:
    """phi = log p_y - log(1 - p_y), within ±1e4: float64[N]. No finite logits of a classifier come near that."""
    return np.clip(scaled_confidence(logits_NC, labels_N), -LARGEST_CONFIDENCE, LARGEST_CONFIDENCE)


def bounded_loss(logits_NC: NDArray[np.float32], labels_N: NDArray[np.int64]) -> Floats:
    """-log p_y in nats, at most 1e4: float64[N]."""
    return np.logaddexp(0.0, -bounded_confidence(logits_NC, labels_N))


def true_class_probability(logits_NC: NDArray[np.float32], labels_N: NDArray[np.int64]) -> Floats:
    """p_y: float64[N]."""
    probability_N: Floats = expit(scaled_confidence(logits_NC, labels_N))
    return probability_N


@dataclass(frozen=True)
class Compared:
    """A measure of the target's answers, own_NQ, and of the references' to the same, references_MNQ: float64.

    in_MN, out_MN: bool, which references are IN and OUT of each record.
    """

    own_NQ: Floats
    references_MNQ: Floats
    in_MN: Mask
    out_MN: Mask


def compared(block: Signals, measure: Measure) -> Compared:
    """Measure the target and the references. Raises InputError where they answered different numbers of queries."""
    references = block.references
    if references is None:
        raise ValueError("an attack by reference models was given none")
    own_NQ = measured_queries(measure, block.logits_NQC, block.labels_N)
    references_MNQ = references.measured(measure, block.labels_N)
    if references_MNQ.shape[2] != own_NQ.shape[1]:
        raise InputError(
            f"references answer {references_MNQ.shape[2]} queries a record, the target {own_NQ.shape[1]}:"
            " ask all models the same queries"
        )
    return Compared(own_NQ, references_MNQ, references.in_MN, references.out_MN)
