"""Nearest neighbors of images and feature vectors, block by block: memory does not grow with the two sets' product."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymia.errors import InputError

# A block of distances is 8 MB, and the references it is taken to at most 2048 float64 vectors.
QUERY_BLOCK = 512
REFERENCE_BLOCK = 2048

# Below this share of the two squared lengths a squared distance of float vectors is the rounding of its own sum.
_ROUNDING = 1e-13

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Nearest:
    """Each query's nearest of so many references: distances float64[n, count], ascending; rows int64[n], of the first.

    Of equally near references the first row counts.
    """

    distances: Floats
    rows: NDArray[np.int64]
    references: int


def nearest(queries: ArrayLike, references: ArrayLike, flips: bool = False, count: int = 1) -> Nearest:
    """The `count` nearest references of every query, by Euclidean distance.

    queries, references: uint8[n, H, W, C] images, their distance the norm over all H·W·C values in [0, 1]; or
    float[n, d] vectors. flips: the smaller of the distances to an image and to its mirror image counts.
    Raises InputError for other arrays, unequal shapes, fewer references than `count`, an empty set, values that are
    not finite, or flips of vectors.
    """
    asked, given = checked_pair(queries, references, flips)
    if len(given) < count:
        raise InputError(f"{len(given)} references for {count} neighbors: give at least {count}")
    found = np.full((len(asked), count), np.inf)
    rows = np.zeros(len(asked), dtype=np.int64)
    for of_queries, of_references, distances_QR in distance_blocks(asked, given, flips):
        rows_Q = np.argmin(distances_QR, axis=1)
        closer_Q = distances_QR[np.arange(len(rows_Q)), rows_Q] < found[of_queries, 0]
        rows[of_queries][closer_Q] = rows_Q[closer_Q] + of_references.start
        both = np.concatenate([found[of_queries], distances_QR], axis=1)
        found[of_queries] = np.sort(np.partition(both, count - 1, axis=1)[:, :count], axis=1)
    return Nearest(found, rows, len(given))


def nearest_distance(queries: ArrayLike, references: ArrayLike, flips: bool = False) -> Floats:
    """float64[n]: the distance of every query to its nearest reference; arguments and errors as `nearest`."""
    return nearest(queries, references, flips).distances[:, 0]


def neighbor_radii(points: ArrayLike, k: int) -> Floats:
    """float64[n]: the distance of every point to its k-th nearest other point; needs more than k points."""
    # A point is its own nearest neighbor, at distance 0.
    return nearest(points, points, count=k + 1).distances[:, k]


def distance_blocks(
    queries: NDArray[np.generic], references: NDArray[np.generic], flips: bool = False
) -> Iterator[tuple[slice, slice, Floats]]:
    """Every distance once: (rows of the queries, rows of the references, float64[rows, rows]) of block after block.

    queries, references: as `checked_pair` gives them. Images are compared in whole numbers, without rounding: equal
    distances are equal, and a copy is at 0.
    """
    scale = 255.0 if queries.dtype == np.uint8 else 1.0
    for start in range(0, len(queries), QUERY_BLOCK):
        of_queries = slice(start, min(start + QUERY_BLOCK, len(queries)))
        views = [_vectors(queries[of_queries])]
        if flips:
            views.append(_vectors(queries[of_queries][:, :, ::-1]))
        for first in range(0, len(references), REFERENCE_BLOCK):
            of_references = slice(first, min(first + REFERENCE_BLOCK, len(references)))
            block = _vectors(references[of_references])
            squared_QR = np.minimum.reduce([_squared_distances(view, block) for view in views])
            yield of_queries, of_references, np.sqrt(squared_QR) / scale


def checked_pair(
    queries: ArrayLike, references: ArrayLike, flips: bool = False
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """The two sets as arrays that can be compared; raises InputError where they cannot."""
    asked, given = checked_points(queries), checked_points(references)
    if asked.shape[1:] != given.shape[1:] or (asked.dtype == np.uint8) != (given.dtype == np.uint8):
        raise InputError(f"{asked.shape[1:]} and {given.shape[1:]} cannot be compared: give two sets of one kind")
    if flips and asked.ndim != 4:
        raise InputError("flips: only images can be mirrored; give uint8[n, H, W, C], or flips=False")
    return asked, given


def checked_points(points: ArrayLike) -> NDArray[np.generic]:
    """uint8[n, H, W, C] images or float[n, d] vectors, n above 0, all finite; raises InputError for anything else."""
    array = np.asarray(points)
    is_image = array.ndim == 4 and array.dtype == np.uint8
    if not is_image and not (array.ndim == 2 and np.issubdtype(array.dtype, np.floating)):
        raise InputError(f"{array.dtype}{list(array.shape)}: give uint8[n, H, W, C] images or float[n, d] vectors")
    if not array.size:
        raise InputError(f"{array.dtype}{list(array.shape)} is empty: give at least one image or vector")
    if not is_image and not np.isfinite(array).all():
        raise InputError("features: NaN or infinite; the encoder has diverged, train it with a lower learning rate")
    return array


def _vectors(points: NDArray[np.generic]) -> Floats:
    return points.reshape(len(points), -1).astype(np.float64)


def _squared_distances(queries_QD: Floats, references_RD: Floats) -> Floats:
    lengths_QR = (queries_QD**2).sum(axis=1)[:, None] + (references_RD**2).sum(axis=1)
    squared_QR = lengths_QR - 2 * (queries_QD @ references_RD.T)
    squared_QR[squared_QR < _ROUNDING * lengths_QR] = 0
    return squared_QR
