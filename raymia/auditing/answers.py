"""Answers as a user hands them in, logits or probabilities, as the logits that attacks read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymia.attacks.protocol import block_rows
from raymia.attacks.references import Rows
from raymia.auditing.stored_array import Array
from raymia.errors import InputError

_SUM_TOLERANCE = 0.02  # probabilities rounded to two digits, or kept in 16 bits, do not sum to 1


@dataclass(frozen=True, eq=False)
class ModelAnswers:
    """One model's answers (`raymia.attacks.Answers`), read in parts.

    source: [N, C] or [N, Q, C], any float type. probabilities: whether it holds these; their logarithms are logits.
    shape: (N, Q, C).
    """

    source: Array
    probabilities: bool
    shape: tuple[int, int, int]

    def __getitem__(self, rows: Rows) -> NDArray[np.float32]:
        """float32[rows, Q, C]."""
        return self._logits(self.raw(rows))

    def raw(self, rows: Rows) -> NDArray[Any]:
        """As they were handed in, [rows, Q, C]."""
        values: NDArray[Any] = self.source[rows]
        return values.reshape(-1, *self.shape[1:])

    def _logits(self, values: NDArray[Any]) -> NDArray[np.float32]:
        with np.errstate(over="ignore", divide="ignore"):
            return (np.log(values.astype(np.float64)) if self.probabilities else values).astype(np.float32)


def check_answers(name: str, models: list[ModelAnswers]) -> None:
    """Read all answers once, block by block. name: of their array, for the message.

    Raises InputError for answers that are no logits, or no probabilities where these are announced.
    """
    seen_logits = False
    for number, model in enumerate(models):
        of = f"{name} of model {number}" if len(models) > 1 else name
        for rows in block_rows(model.shape[0]):
            raw = model.raw(rows)
            looks_N = _look_like_probabilities(raw)
            if model.probabilities and not looks_N.all():
                raise InputError(
                    f"{of}: record {rows.start + int(looks_N.argmin())} has no probabilities (not negative, with the "
                    "sum 1): hand in probabilities everywhere, or logits everywhere without --probabilities"
                )
            _check_finite(of, model[rows], rows.start)
            seen_logits = seen_logits or not looks_N.all()
    if not seen_logits and not models[0].probabilities:
        raise InputError(
            f"{name}: holds probabilities, not logits (none is negative, every record's sum is 1): hand in logits, or "
            "add --probabilities, which takes their logarithms"
        )


def _look_like_probabilities(values_NQC: NDArray[Any]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore", over="ignore"):
        sums_NQ = values_NQC.sum(axis=2, dtype=np.float64)
        looks: NDArray[np.bool_] = ((values_NQC >= 0).all(axis=2) & (np.abs(sums_NQ - 1) < _SUM_TOLERANCE)).all(axis=1)
    return looks


def _check_finite(name: str, logits_NQC: NDArray[np.float32], first: int) -> None:
    """-inf is a posterior of 0, unless all classes have it."""
    bad_NQC = np.isnan(logits_NQC) | np.isposinf(logits_NQC)
    nothing_NQ = np.isneginf(logits_NQC.max(axis=2))
    bad_N = bad_NQC.any(axis=(1, 2)) | nothing_NQ.any(axis=1)
    if bad_N.any():
        raise InputError(
            f"{name}: record {first + int(bad_N.argmax())} holds NaN or an infinite logit: repair its answers, or "
            "leave the record out"
        )
