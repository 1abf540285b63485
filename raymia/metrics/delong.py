"""The interval of an AUC, and of the difference of two AUCs on the same records, after DeLong et al. (1988).

The structural components are midranks, so the cost is that of a sort (Sun & Xu 2014).
"""

from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from raymia.metrics.intervals import ALPHA, Interval, normal_quantile
from raymia.metrics.roc import ScoreGroups, auc_of, group_scores


def components(groups: ScoreGroups) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each member's share of non-members below it, float64[M], and each non-member's share of members above it,
    float64[N]; equal scores count a half. Both average to the AUC.
    """
    nonmembers_below = groups.nonmembers - np.cumsum(groups.nonmembers_U)
    members_above = np.cumsum(groups.members_U) - groups.members_U
    share_below_U = (nonmembers_below + groups.nonmembers_U / 2) / groups.nonmembers
    share_above_U = (members_above + groups.members_U / 2) / groups.members
    return share_below_U[groups.member_groups_M], share_above_U[groups.nonmember_groups_N]


def delong_variance(groups: ScoreGroups) -> float:
    """DeLong's variance of the AUC.

    With a single member or non-member its component has no sample variance: then the largest variance any
    distribution can give, AUC (1 - AUC) / min(M, N) (Birnbaum & Klose 1957).
    """
    of_members, of_nonmembers = components(groups)
    if min(groups.members, groups.nonmembers) < 2:
        area = auc_of(groups)
        return area * (1 - area)
    return _variance(of_members, of_nonmembers)


def auc_interval(groups: ScoreGroups, alpha: float = ALPHA) -> Interval:
    """DeLong's interval of the AUC on the logit scale, which stays inside [0, 1] and covers better near the ends.

    Where the variance is zero (perfect separation, or all scores equal) DeLong says "no doubt at all". There the
    bound is exact instead, from min(M, N) disjoint pairs: see `_constant_pairs_bound`.
    """
    area, variance = auc_of(groups), delong_variance(groups)
    if variance <= 0 or area in (0.0, 1.0):
        return _constant_pairs_bound(area, groups, alpha).clipped(0, 1)
    return _logit_interval(area, normal_quantile(alpha) * sqrt(variance) / (area * (1 - area)))


def widen_auc_interval(area: float, interval: Interval, alpha: float) -> Interval:
    """The interval at level 1 - alpha of an AUC whose 95% interval by `auc_interval` is known, without its scores."""
    if area in (0.0, 1.0):
        kept = interval.low if area == 1 else 1 - interval.high
        kept **= np.log(alpha / 2) / np.log(ALPHA / 2)
        return Interval(kept, 1.0) if area == 1 else Interval(0.0, 1 - kept)
    half = float(special.logit(interval.high) - special.logit(interval.low)) / 2
    return _logit_interval(area, half * normal_quantile(alpha) / normal_quantile(ALPHA))


def paired_auc_difference(
    ours_N: ArrayLike, theirs_N: ArrayLike, member_N: ArrayLike, alpha: float = ALPHA
) -> tuple[float, Interval]:
    """AUC of ours - AUC of theirs, two scores float64[N] of the same records, with DeLong's paired interval.

    It knows the doubt from the records, not the one from retraining. Never of zero width: where every component
    differs by the same amount the bound of `_constant_pairs_bound` stands in.
    """
    ours, theirs = group_scores(ours_N, member_N), group_scores(theirs_N, member_N)
    difference = auc_of(ours) - auc_of(theirs)
    of_members, of_nonmembers = (a - b for a, b in zip(components(ours), components(theirs), strict=True))
    # A lone record's component has no sample variance: 1 is the largest that a value in [-1, 1] can have.
    lone = min(ours.members, ours.nonmembers) < 2
    variance = 1.0 if lone else _variance(of_members, of_nonmembers)
    if variance <= 1e-30:
        return difference, _constant_pairs_bound(difference, ours, alpha, floor=-1.0).clipped(-1, 1)
    half = normal_quantile(alpha) * sqrt(variance)
    return difference, Interval(difference - half, difference + half).clipped(-1, 1)


def _variance(of_members: NDArray[np.float64], of_nonmembers: NDArray[np.float64]) -> float:
    return float(np.var(of_members, ddof=1) / len(of_members) + np.var(of_nonmembers, ddof=1) / len(of_nonmembers))


def _logit_interval(area: float, half: float) -> Interval:
    center = float(special.logit(area))
    return Interval(float(special.expit(center - half)), float(special.expit(center + half)))


def _constant_pairs_bound(value: float, groups: ScoreGroups, alpha: float, floor: float = 0.0) -> Interval:
    """Bound of a mean over pairs in [floor, 1] when every pair seen gave `value`.

    min(M, N) disjoint member / non-member pairs are independent, and all gave `value`. Clopper-Pearson: the chance q
    of that outcome is at least (alpha / 2) ** (1 / pairs), near 1 - 3.7 / pairs; the other pairs lie anywhere.
    """
    likely = (alpha / 2) ** (1 / min(groups.members, groups.nonmembers))
    return Interval(value * likely + floor * (1 - likely), value * likely + (1 - likely))
