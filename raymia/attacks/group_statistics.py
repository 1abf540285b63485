"""Center and spread of a value over the models of a group, record by record.

M models, N records, Q queries. A group is a mask[M, N]: of each record it holds other models, any number of them. Sums
run over the models one after another, so that a record's figures do not depend, even in the last digit, on which
records stand beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class GroupMoments:
    """count_N: int64, models in the group. mean_NQ: NaN where there is none. variance_NQ: about the mean, with the
    divisor count - 1, which makes it unbiased whatever the count; 0 where there are fewer than two.
    """

    count_N: NDArray[np.int64]
    mean_NQ: Floats
    variance_NQ: Floats

    @classmethod
    def joined(cls, parts: Sequence["GroupMoments"]) -> "GroupMoments":
        """Of all the parts' records, in order."""
        return cls(
            np.concatenate([part.count_N for part in parts]),
            np.concatenate([part.mean_NQ for part in parts]),
            np.concatenate([part.variance_NQ for part in parts]),
        )

    @property
    def freedom(self) -> NDArray[np.int64]:
        """Degrees of freedom of the variances, int64[N]."""
        return np.maximum(self.count_N - 1, 0)


def group_moments(values_MNQ: Floats, mask_MN: Mask) -> GroupMoments:
    """Mean and variance over each record's models in the group. The values must be finite."""
    mean_NQ = group_mean(values_MNQ, mask_MN)
    squares_NQ = np.zeros_like(mean_NQ)
    for values_NQ, mask_N in zip(values_MNQ, mask_MN, strict=True):
        squares_NQ += np.where(mask_N[:, None], values_NQ - mean_NQ, 0.0) ** 2
    count_N = mask_MN.sum(axis=0)
    return GroupMoments(count_N, mean_NQ, squares_NQ / np.maximum(count_N - 1, 1)[:, None])


def group_mean(values_MNQ: Floats, mask_MN: Mask) -> Floats:
    """The mean over each record's models in the group, float64[N, Q]; NaN where there is none."""
    total_NQ = np.zeros(values_MNQ.shape[1:])
    for values_NQ, mask_N in zip(values_MNQ, mask_MN, strict=True):
        total_NQ += np.where(mask_N[:, None], values_NQ, 0.0)
    count_N1 = mask_MN.sum(axis=0)[:, None]
    return np.where(count_N1 > 0, total_NQ / np.maximum(count_N1, 1), np.nan)


def group_median(values_MNQ: Floats, mask_MN: Mask) -> Floats:
    """The median over each record's models in the group, float64[N, Q]; NaN where there is none."""
    median_NQ = np.empty(values_MNQ.shape[1:])
    for query in range(values_MNQ.shape[2]):
        median_NQ[:, query] = _median(values_MNQ[:, :, query], mask_MN)
    return median_NQ


def _median(values_MN: Floats, mask_MN: Mask) -> Floats:
    if not len(values_MN):
        return np.full(values_MN.shape[1], np.nan)
    # The other models come last, once sorted. A record's models lie side by side, which sorts ten times as fast.
    sorted_NM = np.ascontiguousarray(np.where(mask_MN, values_MN, np.inf).T)
    sorted_NM.sort(axis=1)
    count_N = mask_MN.sum(axis=0)
    rows = np.arange(len(count_N))
    lower_N = sorted_NM[rows, np.maximum(count_N - 1, 0) // 2]
    upper_N = sorted_NM[rows, np.minimum(count_N // 2, len(values_MN) - 1)]
    return np.where(count_N > 0, (lower_N + upper_N) / 2, np.nan)
