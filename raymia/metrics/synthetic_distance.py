"""How far a set of synthetic features lies from real ones: Fréchet distance and kernel distance.

The features may come from any encoder, so neither number is an FID: that name belongs to Inception-v3 features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymia.errors import InputError
from raymia.metrics.synthetic_neighbors import checked_points

KID_SUBSET = 1000
KID_SUBSETS = 50

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kid:
    """mean: the estimate. std: the spread of the estimates of `subset` + `subset` records, not an error of the mean."""

    mean: float
    std: float
    subset: int
    subsets: int


def frechet_distance(features_a: ArrayLike, features_b: ArrayLike) -> float:
    """|m - n|² + tr(S + T - 2 (S T)^½) of two sets float[n, d] with means m, n and covariances S, T (ddof 1).

    The squared distance, as FID has it (Heusel et al. 2017, eq. 6; Dowson & Landau 1982). Biased upward by about d/n:
    compare only at equal n, or take `kid`. tr (S T)^½ is the sum of the singular values of S^½ T^½, so it stays
    real and exact where covariances are singular (n below d, dead features).
    Raises InputError for fewer than two records or unequal d.
    """
    a_ND, b_ND = _pair(features_a, features_b)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (a_ND, b_ND))
    shared = np.linalg.svd(_root(covariance_a) @ _root(covariance_b), compute_uv=False).sum()
    shift = a_ND.mean(axis=0) - b_ND.mean(axis=0)
    distance = shift @ shift + np.trace(covariance_a) + np.trace(covariance_b) - 2 * shared
    return max(float(distance), 0.0)


def kid(
    features_a: ArrayLike,
    features_b: ArrayLike,
    rng: np.random.Generator,
    subset: int = KID_SUBSET,
    subsets: int = KID_SUBSETS,
) -> Kid:
    """The kernel distance: unbiased MMD² with k(a, b) = (a·b/d + 1)³ (Bińkowski et al. 2018), over random subsets.

    Unbiased: of equal distributions it is 0 on average, so it is below 0 about as often as above. subset: records
    drawn without replacement from either set each time, at most half the smaller set, so that subsets differ.
    Raises InputError for fewer than four records or unequal d.
    """
    a_ND, b_ND = _pair(features_a, features_b)
    size = min(subset, len(a_ND) // 2, len(b_ND) // 2)
    if size < 2 or subsets < 2:
        raise InputError(f"kid: {len(a_ND)} and {len(b_ND)} records, {subsets} subsets; give 4 records and 2 subsets")
    estimates = [
        unbiased_mmd2(
            a_ND[rng.choice(len(a_ND), size, replace=False)], b_ND[rng.choice(len(b_ND), size, replace=False)]
        )
        for _ in range(subsets)
    ]
    return Kid(float(np.mean(estimates)), float(np.std(estimates, ddof=1)), size, subsets)


def unbiased_mmd2(a_MD: Floats, b_ND: Floats) -> float:
    """Unbiased MMD² with the cubic kernel of `kid` (Gretton et al. 2012, eq. 3): no record is compared with itself."""
    within = 0.0
    for points in (a_MD, b_ND):
        kernel = _cubic(points, points)
        within += (kernel.sum() - np.trace(kernel)) / (len(points) * (len(points) - 1))
    return float(within - 2 * _cubic(a_MD, b_ND).mean())


def _cubic(a_MD: Floats, b_ND: Floats) -> Floats:
    return (a_MD @ b_ND.T / a_MD.shape[1] + 1) ** 3


def _root(covariance: Floats) -> Floats:
    """The symmetric square root; eigenvalues below 0 are rounding."""
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root


def _pair(features_a: ArrayLike, features_b: ArrayLike) -> tuple[Floats, Floats]:
    pair = [checked_points(features) for features in (features_a, features_b)]
    if any(each.ndim != 2 for each in pair) or pair[0].shape[1] != pair[1].shape[1]:
        raise InputError(f"features {pair[0].shape} and {pair[1].shape}: give float[n, d] of one encoder")
    if min(len(each) for each in pair) < 2:
        raise InputError("features: one record has no spread; give at least two in each set")
    return pair[0].astype(np.float64), pair[1].astype(np.float64)
