"""Neighbors in blocks are the neighbors, exactly, of images and of vectors."""

import numpy as np
import pytest

from raymia.errors import InputError
from raymia.metrics import synthetic_neighbors
from raymia.metrics.synthetic_neighbors import nearest, nearest_distance, neighbor_radii


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks both ways, none of them full at the end."""
    monkeypatch.setattr(synthetic_neighbors, "QUERY_BLOCK", 7)
    monkeypatch.setattr(synthetic_neighbors, "REFERENCE_BLOCK", 11)


def images(count: int, seed: int, shape: tuple[int, ...] = (4, 4, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def plain_distances(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """[queries, references], pair by pair, images in [0, 1]."""
    scale = 255 if queries.dtype == np.uint8 else 1
    pairs = queries.astype(float)[:, None] - references.astype(float)[None]
    return np.sqrt((pairs**2).reshape(len(queries), len(references), -1).sum(axis=2)) / scale


@pytest.mark.parametrize("kind", ["images", "vectors"])
def test_nearest_are_those_of_all_pairs(kind: str) -> None:
    queries, references = images(20, 0), images(30, 1)
    if kind == "vectors":
        queries, references = (each.reshape(len(each), -1).astype(np.float32) + 0.25 for each in (queries, references))
    expected = plain_distances(queries, references)
    found = nearest(queries, references, count=6)
    assert found.references == 30
    assert found.rows.tolist() == expected.argmin(axis=1).tolist()
    assert len(set(found.rows.tolist())) > 5
    assert found.distances == pytest.approx(np.sort(expected, axis=1)[:, :6])
    assert nearest_distance(queries, references) == pytest.approx(expected.min(axis=1))


def test_flips_take_the_nearer_of_an_image_and_its_mirror_image() -> None:
    queries, references = images(20, 0), images(30, 1)
    mirrored = references[:, :, ::-1]
    expected = np.minimum(plain_distances(queries, references), plain_distances(queries, mirrored))
    assert nearest(queries, references, flips=True, count=3).distances == pytest.approx(np.sort(expected)[:, :3])
    # Left and right change places, top and bottom do not.
    assert nearest_distance(references[:, :, ::-1], references, flips=True).max() == 0
    assert nearest_distance(references[:, ::-1], references, flips=True).min() > 0
    assert nearest_distance(references[:, :, ::-1], references).min() > 0


def test_the_unit_is_the_pixel_from_black_to_white() -> None:
    black, white = np.zeros((1, 8, 8, 1), np.uint8), np.full((1, 8, 8, 1), 255, np.uint8)
    assert nearest_distance(black, white).tolist() == [8.0]


def test_a_copy_is_at_exactly_zero_and_the_first_of_equals_counts() -> None:
    references = np.concatenate([images(30, 1), images(30, 1)])
    found = nearest(references[:30], references)
    assert found.distances.max() == 0
    assert found.rows.tolist() == list(range(30))


def test_a_copied_vector_is_at_exactly_zero_far_from_the_origin() -> None:
    vectors = (1000 + np.random.default_rng(0).normal(size=(40, 96))).astype(np.float32)
    found = nearest(vectors, vectors, count=2)
    assert found.distances[:, 0].max() == 0
    assert found.distances[:, 1].min() > 1


def test_radius_is_the_distance_to_the_kth_other_point() -> None:
    points = np.array([[0.0], [1.0], [3.0], [7.0], [7.0]])
    assert neighbor_radii(points, 1).tolist() == [1, 1, 2, 0, 0]
    assert neighbor_radii(points, 2).tolist() == [3, 2, 3, 4, 4]


@pytest.mark.parametrize(
    ("queries", "references", "options", "message"),
    [
        (images(2, 0), images(2, 0, (4, 4, 1)), {}, "two sets of one kind"),
        (images(2, 0), np.zeros((2, 48)), {}, "two sets of one kind"),
        (images(2, 0).astype(np.float32), images(2, 0), {}, r"give uint8\[n, H, W, C\]"),
        (images(0, 0), images(2, 0), {}, "is empty"),
        (images(2, 0), images(2, 0), {"count": 3}, "give at least 3"),
        (np.zeros((2, 3)), np.zeros((2, 3)), {"flips": True}, "only images can be mirrored"),
        (np.zeros((2, 3)), np.array([[0, 0, np.inf]]), {}, "NaN or infinite"),
    ],
)
def test_refuses_what_cannot_be_compared(queries, references, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nearest(queries, references, **options)
