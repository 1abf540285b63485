"""How far to believe a variance that was estimated from a few models.

Every variance rule of LiRA is one formula with another prior. Of d degrees of freedom, a record's own variance s²
becomes

    (d0 s0² + d s²) / (d0 + d)

(Smyth 2004, "Linear models and empirical Bayes methods", equation for the posterior variance): d0 = 0 leaves each
record its own, d0 = inf gives all the same one, s0², and in between records with few models borrow from the others.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, polygamma

from raymia.attacks.group_statistics import Floats, GroupMoments

_SMALLEST_DEVIATION = 1e-6  # models that answer the same to float32's last digit leave no variance to divide by
_SMALLEST_SHARE = 1e-5  # of the median: variances below count as this large where their logarithms are compared


@dataclass(frozen=True)
class VariancePrior:
    """variance_Q: s0², freedom_Q: d0, for each of Q queries, or one for all."""

    variance_Q: Floats
    freedom_Q: Floats

    def variance(self, group: GroupMoments) -> Floats:
        """The variances to use, float64[N, Q], never below 1e-12."""
        freedom_N1 = group.freedom[:, None]
        own_NQ = freedom_N1 / np.maximum(freedom_N1 + self.freedom_Q, 1e-300)  # how much the record's own counts
        variance_NQ = own_NQ * group.variance_NQ + (1 - own_NQ) * self.variance_Q
        return np.maximum(variance_NQ, _SMALLEST_DEVIATION**2)


OWN_VARIANCES = VariancePrior(np.zeros(1), np.zeros(1))
"""Each record's own variance, nothing else (LiRA's per-example variance)."""


def pooled_residuals(group: GroupMoments) -> VariancePrior:
    """One variance for all records, of the deviations from each record's mean; pooled over the records.

    The records' own means take one degree of freedom each, so it is unbiased however few models a record has.
    """
    freedom_N1 = group.freedom[:, None]
    return _the_same((freedom_N1 * group.variance_NQ).sum(axis=0) / freedom_N1.sum())


def spread_of_all(group: GroupMoments) -> VariancePrior:
    """One variance for all records and queries: that of all values about one mean, as LiRA's authors' code has it.

    It counts how records differ from each other as if it were how models differ on one record.
    """
    count_N1 = np.broadcast_to(group.count_N[:, None], group.mean_NQ.shape)
    mean_NQ = np.where(count_N1 > 0, group.mean_NQ, 0.0)
    overall = (count_N1 * mean_NQ).sum() / count_N1.sum()
    within = (group.freedom[:, None] * group.variance_NQ).sum()
    between = (count_N1 * (mean_NQ - overall) ** 2).sum()
    return _the_same(np.full(mean_NQ.shape[1], (within + between) / count_N1.sum()))


def moderated(group: GroupMoments) -> VariancePrior:
    """The prior from which the records' variances seem to be drawn, scaled inverse chi², fitted query by query.

    Smyth 2004, section 6.2, by the mean and the spread of the variances' logarithms (limma's `fitFDist`); the spread
    that d degrees of freedom do not explain tells d0. Where they explain all, the variances do not differ: d0 = inf.
    """
    known_N = group.freedom > 0
    freedom_N = group.freedom[known_N]
    fits = [_fitted(variance_N, freedom_N) for variance_N in group.variance_NQ[known_N].T]
    return VariancePrior(np.array([fit[0] for fit in fits]), np.array([fit[1] for fit in fits]))


def _the_same(variance_Q: Floats) -> VariancePrior:
    return VariancePrior(variance_Q, np.full(len(variance_Q), np.inf))


def _fitted(variance_N: Floats, freedom_N: NDArray[np.int64]) -> tuple[float, float]:
    """s0² and d0."""
    least = max(_SMALLEST_SHARE * float(np.median(variance_N)), _SMALLEST_DEVIATION**2)
    half_N = freedom_N / 2
    log_N = np.log(np.maximum(variance_N, least)) - digamma(half_N) + np.log(half_N)
    mean = float(log_N.mean())
    squares = float(((log_N - mean) ** 2).sum()) / max(len(log_N) - 1, 1)
    unexplained = squares - float(polygamma(1, half_N).mean())
    if unexplained <= 0:
        return float(np.exp(mean)), np.inf
    half = inverse_trigamma(unexplained)
    return float(np.exp(mean + digamma(half) - np.log(half))), 2 * half


def inverse_trigamma(value: float) -> float:
    """y with trigamma(y) = value > 0, by Newton's method on 1 / trigamma, which is nearly straight (Smyth 2004)."""
    if value > 1e7:
        return float(1 / np.sqrt(value))
    if value < 1e-6:
        return 1 / value
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, y))
        y += step
        if abs(step) < 1e-10 * y:
            break
    return y
