"""Intervals in closed form: proportions, balanced accuracy of fixed decisions, Student t over targets.

Every interval is two-sided at `1 - alpha` (95% unless told). What needs the scores themselves is in `delong` and
`bootstrap`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import special

ALPHA = 0.05

# Means and fractions that are equal on paper may differ in their last digits: no more than this is no difference.
ROUNDING = 1e-12


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
    if max(values) - min(values) <= ROUNDING:
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


def welch_interval(ours: Sequence[float], theirs: Sequence[float], alpha: float = ALPHA) -> Interval | None:
    """Of the mean of ours - the mean of theirs, over targets that have nothing in common (Welch 1947).

    None below two of each; of zero width where all of ours are equal and all of theirs.
    """
    if min(len(ours), len(theirs)) < 2:
        return None
    difference = float(np.mean(ours) - np.mean(theirs))
    if max(max(values) - min(values) for values in (ours, theirs)) <= ROUNDING:
        return Interval(difference, difference)
    parts = [(float(np.var(values, ddof=1)) / len(values), len(values) - 1) for values in (ours, theirs)]
    variance = sum(part for part, _ in parts)
    half = t_quantile(alpha, variance**2 / sum(part**2 / freedom for part, freedom in parts)) * sqrt(variance)
    return Interval(difference - half, difference + half)


def resampled_t_interval(estimate: float, draws_R: NDArray[np.float64], targets: int, alpha: float = ALPHA) -> Interval:
    """estimate +- t(T - 1) * SE, the SE of a cluster bootstrap over T targets times sqrt(T / (T - 1)).

    Percentiles of so few clusters are far too narrow; the factor and the Student quantile are those that make the
    bootstrap of a plain mean agree with its t interval (Cameron, Gelbach & Miller 2008). Equal draws give an
    interval of zero width, as in `t_interval`.
    """
    error = float(np.std(draws_R)) * sqrt(targets / (targets - 1))
    half = t_quantile(alpha, targets - 1) * error if error > ROUNDING else 0.0
    return Interval(estimate - half, estimate + half)


def difference_interval(ours: float, of_ours: Interval, theirs: float, of_theirs: Interval) -> Interval:
    """Of ours - theirs, from the interval of each (Newcombe 1998, method 10): as if they knew nothing of each other."""
    below = hypot(ours - of_ours.low, of_theirs.high - theirs)
    above = hypot(of_ours.high - ours, theirs - of_theirs.low)
    return Interval(ours - theirs - below, ours - theirs + above)


def paired_t_interval(ours: Sequence[float], theirs: Sequence[float], alpha: float = ALPHA) -> Interval | None:
    """Student t interval of the mean of ours - theirs, entry by entry on the same seeds; None below two seeds."""
    return t_interval([a - b for a, b in zip(ours, theirs, strict=True)], alpha)
