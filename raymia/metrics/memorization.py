"""How far a record is memorized: how much more often models that trained on it are right on it than those that did not.

Feldman & Zhang 2020 (arXiv 2008.03703), eq. 1: mem_i = P(model trained on i is right on i) - P(model trained without it
is right on i), both over models on random halves of the records.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymia.errors import InputError
from raymia.metrics.leakage import lowest_resolved_fpr
from raymia.metrics.membership import TARGET_FPRS
from raymia.metrics.roc import MIN_FALSE_POSITIVES, resolvable

LEAST_BINS = 2


@dataclass(frozen=True)
class Memorization:
    """N records counted over reference models, int64[N] each.

    in_N, out_N: how many models trained on the record, and how many did not. right_in_N, right_out_N: how many of
    these are right on it.
    """

    right_in_N: NDArray[np.int64]
    in_N: NDArray[np.int64]
    right_out_N: NDArray[np.int64]
    out_N: NDArray[np.int64]

    @property
    def scores(self) -> NDArray[np.float64]:
        """mem_i, float64[N] in [-1, 1]: 0 for a record that is learned from the others, 1 for one learned by heart."""
        scores: NDArray[np.float64] = self.right_in_N / self.in_N - self.right_out_N / self.out_N
        return scores


def count_memorization(right_MN: ArrayLike, in_MN: ArrayLike) -> Memorization:
    """Count over M models. right_MN: bool[M, N], whether the model's largest logit is at the label. in_MN: bool[M, N],
    whether it trained on the record.

    Raises InputError for shapes or types that differ, and for a record that all models or none trained on.
    """
    right, inside = np.asarray(right_MN), np.asarray(in_MN)
    if right.dtype != np.bool_ or inside.dtype != np.bool_ or right.ndim != 2 or right.shape != inside.shape:
        raise InputError(
            f"right {right.dtype}{right.shape} and in {inside.dtype}{inside.shape}: give two bool[models, records]"
        )
    counted = Memorization(
        right_in_N=(right & inside).sum(axis=0),
        in_N=inside.sum(axis=0),
        right_out_N=(right & ~inside).sum(axis=0),
        out_N=(~inside).sum(axis=0),
    )
    if not (counted.in_N.all() and counted.out_N.all()):
        raise InputError("in: some record is in all models or in none; give each models of both kinds")
    return counted


def upper_edges(bins: int) -> NDArray[np.float64]:
    """The upper edge of each bin of memorization scores, float64[bins]: 0 of the first one, which takes all scores that
    are not above 0; the others share (0, 1] evenly. 21 of them are those of Luo & Li 2025 (DeMem).
    """
    if bins < LEAST_BINS:
        raise InputError(f"--bins {bins}: give {LEAST_BINS} or more, the first of which takes all scores up to 0")
    edges: NDArray[np.float64] = np.arange(bins) / (bins - 1)
    return edges


def bins_of(scores_N: ArrayLike, bins: int) -> NDArray[np.int64]:
    """The bin of each memorization score, int64[N] from 0; a score on an edge belongs to the bin below it."""
    last = len(upper_edges(bins)) - 1
    # Rounded: a score is a difference of fractions, and 0.9 - 0.7 comes out above 0.2.
    places = np.ceil(np.round(np.asarray(scores_N, dtype=np.float64) * last, 9)).astype(np.int64)
    return np.clip(places, 0, last)


def resolved_fpr(nonmembers: int, asked: float | None = None) -> float:
    """The false positive rate at which members are counted as found.

    asked: None takes the lowest of `TARGET_FPRS` that so many non-members resolve. Raises InputError where they resolve
    none, or not the one asked for.
    """
    least = MIN_FALSE_POSITIVES / nonmembers
    remedy = f"give --fpr {_rounded_up(least):g} or more" if least < 1 else "bring more records"
    if asked is not None:
        if not 0 < asked < 1:
            raise InputError(f"--fpr {asked:g}: give a fraction between 0 and 1")
        if not resolvable(nonmembers, asked):
            raise InputError(f"--fpr {asked:g}: {nonmembers:,} non-members cannot resolve it; {remedy}")
        return asked
    lowest = lowest_resolved_fpr(nonmembers)
    if lowest is None:
        raise InputError(f"--fpr: {nonmembers:,} non-members do not even resolve {max(TARGET_FPRS):g}; {remedy}")
    return lowest


def _rounded_up(fraction: float) -> float:
    """To two significant digits, never below it."""
    step = 10.0 ** (np.floor(np.log10(fraction)) - 1)
    return float(np.ceil(np.round(fraction / step, 6)) * step)
