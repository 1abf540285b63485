"""Fidelity and diversity of synthetic features, by balls around records that reach to their k-th neighbor."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymia.errors import InputError
from raymia.metrics.synthetic_neighbors import checked_pair, distance_blocks, neighbor_radii

PRECISION_K = 3
DENSITY_K = 5


@dataclass(frozen=True)
class PrecisionRecall:
    """precision: fraction of synthetic records among the real ones. recall: of real among the synthetic."""

    precision: float
    recall: float


@dataclass(frozen=True)
class DensityCoverage:
    """density: how many real balls hold a synthetic record, 1 on average for equal distributions, may be above 1.

    coverage: fraction of real balls that hold one; 1 - 2^-k on average for equal distributions and large n.
    """

    density: float
    coverage: float


def precision_recall(real: ArrayLike, synthetic: ArrayLike, k: int = PRECISION_K) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1-2) of two sets float[n, d] of equal n.

    A record belongs to a set when it lies in the closed ball of some record of it, whose radius is the distance to
    that record's k-th nearest other record. Raises InputError for unequal n, or not more than k records.
    """
    real_ND, synthetic_ND = _equal(real, synthetic, k)
    return PrecisionRecall(_share_within(synthetic_ND, real_ND, k), _share_within(real_ND, synthetic_ND, k))


def density_coverage(real: ArrayLike, synthetic: ArrayLike, k: int = DENSITY_K) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, eq. 3-4) of two sets float[n, d] of equal n; balls are open.

    Unlike precision and recall, one outlier's large ball adds little. Raises InputError as `precision_recall`.
    """
    real_ND, synthetic_ND = _equal(real, synthetic, k)
    radii_N = neighbor_radii(real_ND, k)
    held, reached_N = 0, np.zeros(len(real_ND), dtype=bool)
    for _, of_real, distances_QR in distance_blocks(synthetic_ND, real_ND):
        inside_QR = distances_QR < radii_N[of_real]
        held += int(inside_QR.sum())
        reached_N[of_real] |= inside_QR.any(axis=0)
    return DensityCoverage(held / (k * len(synthetic_ND)), float(reached_N.mean()))


def _share_within(queries: NDArray[np.generic], references: NDArray[np.generic], k: int) -> float:
    """The fraction of queries in some reference's closed ball."""
    radii_N = neighbor_radii(references, k)
    inside_Q = np.zeros(len(queries), dtype=bool)
    for of_queries, of_references, distances_QR in distance_blocks(queries, references):
        inside_Q[of_queries] |= (distances_QR <= radii_N[of_references]).any(axis=1)
    return float(inside_Q.mean())


def _equal(real: ArrayLike, synthetic: ArrayLike, k: int) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    real_ND, synthetic_ND = checked_pair(real, synthetic)
    if len(real_ND) != len(synthetic_ND):
        raise InputError(f"{len(real_ND)} real and {len(synthetic_ND)} synthetic records: take equally many of each")
    if len(real_ND) <= k:
        raise InputError(f"{len(real_ND)} records for {k} neighbors: give more than {k} real and synthetic records")
    return real_ND, synthetic_ND
