"""Intervals in closed form: proportions, balanced accuracy of fixed decisions, Student t over targets.

Every interval is two-sided at `1 - alpha` (95% unless told). What needs the scores themselves is in `delong` and
`bootstrap`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import special

ALPHA = 0.05


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval; both ends belong to it."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def width(self) -> float:
        return self.high - self.low

    def clipped(self, low: float, high: float) -> "Interval":
        """The part inside [low, high], for a quantity that cannot leave it."""
        return Interval(min(max(self.low, low), high), min(max(self.high, low), high))


def normal_quantile(alpha: float) -> float:
    """The two-sided standard normal quantile: 1.96 for alpha 0.05."""
    return float(-special.ndtri(alpha / 2))


def t_quantile(alpha: float, freedom: float) -> float:
    """The two-sided Student t quantile with `freedom` degrees of freedom."""
    return float(-special.stdtrit(freedom, alpha / 2))


def wilson(fraction: float, records: int, alpha: float = ALPHA) -> Interval:
    """Wilson's score interval of a proportion seen on so many records (Wilson 1927); never of zero width."""
    z = normal_quantile(alpha)
    scale = 1 + z**2 / records
    center = (fraction + z**2 / (2 * records)) / scale
    half = z * sqrt(fraction * (1 - fraction) / records + z**2 / (4 * records**2)) / scale
    return Interval(min(center - half, fraction), max(center + half, fraction)).clipped(0, 1)


def fixed_balanced_accuracy(tpr: float, members: int, fpr: float, nonmembers: int, alpha: float = ALPHA) -> Interval:
    """Interval of (TPR + TNR) / 2 for decisions that these records did not choose.

    The two Wilson intervals combined by Newcombe's hybrid score method (Newcombe 1998, method 10); never of zero
    width, also when every decision is right.
    """
    tnr = 1 - fpr
    hit, pass_ = wilson(tpr, members, alpha), wilson(tnr, nonmembers, alpha)
    below = sqrt((tpr - hit.low) ** 2 + (tnr - pass_.low) ** 2)
    above = sqrt((hit.high - tpr) ** 2 + (pass_.high - tnr) ** 2)
    return Interval((tpr + tnr - below) / 2, (tpr + tnr + above) / 2).clipped(0, 1)


def t_interval(values: Sequence[float], alpha: float = ALPHA) -> Interval | None:
    """Student t interval of the mean over targets (or of paired differences over seeds).

    None for fewer than two values: one target says nothing about the spread over targets. Equal values give an
    interval of zero width; who knows a lower limit of the spread has to apply it.
    """
    if len(values) < 2:
        return None
    if min(values) == max(values):  # their mean may be rounded, and then their spread is not 0
        return Interval(float(values[0]), float(values[0]))
    mean = float(np.mean(values))
    half = t_quantile(alpha, len(values) - 1) * float(np.std(values, ddof=1)) / sqrt(len(values))
    return Interval(mean - half, mean + half)


def fraction_interval(fractions: Sequence[float], records: int, alpha: float = ALPHA) -> Interval:
    """Interval of the mean of targets' fractions, inside [0, 1]: Student t over them, and Wilson's on so many records
    where there is one target, or all are equal and t would say "no doubt at all".
    """
    interval = t_interval(fractions, alpha)
    if interval is None or interval.width <= 0:
        return wilson(fractions[0], records, alpha)
    return interval.clipped(0, 1)


def paired_t_interval(ours: Sequence[float], theirs: Sequence[float], alpha: float = ALPHA) -> Interval | None:
    """Student t interval of the mean of ours - theirs, entry by entry on the same seeds; None below two seeds."""
    return t_interval([a - b for a, b in zip(ours, theirs, strict=True)], alpha)
