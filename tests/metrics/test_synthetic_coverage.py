"""Precision, recall, density and coverage on sets whose answers are known."""

import numpy as np
import pytest

from raymia.errors import InputError
from raymia.metrics import synthetic_neighbors
from raymia.metrics.synthetic_coverage import density_coverage, precision_recall


def normal(records: int, dimensions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(records, dimensions)).astype(np.float32)


def test_a_set_against_itself_is_all_precise_recalled_and_covered() -> None:
    features = normal(60, 8, 0)
    found = precision_recall(features, features[::-1])
    assert (found.precision, found.recall) == (1, 1)
    same = density_coverage(features, features)
    # Every open ball holds its own record and the four nearest others.
    assert (same.density, same.coverage) == (pytest.approx(1, abs=0.01), 1)


def test_sets_far_apart_share_nothing() -> None:
    real, synthetic = normal(60, 8, 0), normal(60, 8, 1) + 100
    found = precision_recall(real, synthetic)
    assert (found.precision, found.recall) == (0, 0)
    apart = density_coverage(real, synthetic)
    assert (apart.density, apart.coverage) == (0, 0)


def test_by_hand_on_a_line() -> None:
    real, synthetic = np.array([[0.0], [1.0], [2.0], [10.0]]), np.array([[0.5], [0.6], [2.5], [19.0]])
    # k = 1: real radii 1, 1, 1, 8 (10 reaches 2 to 18); synthetic radii 0.1, 0.1, 1.9, 16.5 (2.5 and beyond).
    found = precision_recall(real, synthetic, k=1)
    assert (found.precision, found.recall) == (3 / 4, 3 / 4)
    # 0.5 and 0.6 lie in the balls of 0 and 1, 2.5 in those of 2 and 10.
    dense = density_coverage(real, synthetic, k=1)
    assert (dense.density, dense.coverage) == (6 / 4, 1)


def test_the_ball_is_closed_for_precision_and_open_for_density() -> None:
    real, synthetic = np.array([[0.0], [1.0]]), np.array([[2.0], [-1.0]])
    assert precision_recall(real, synthetic, k=1).precision == 1
    assert density_coverage(real, synthetic, k=1).density == 0


def test_a_collapsed_set_is_precise_and_recalls_little() -> None:
    real = normal(200, 4, 0)
    collapsed = np.repeat(real[:1], 200, axis=0) + 1e-3 * normal(200, 4, 1)
    found = precision_recall(real, collapsed)
    assert found.precision == 1
    assert found.recall <= 0.01
    assert density_coverage(real, collapsed).coverage < 0.2


def test_equal_distributions_have_density_one_and_the_coverage_that_follows_from_k() -> None:
    found = [density_coverage(normal(300, 3, seed), normal(300, 3, 1000 + seed), k=2) for seed in range(12)]
    assert np.mean([one.density for one in found]) == pytest.approx(1, abs=0.05)
    # 1 - Π (n - i) / (2n - i), i = 1..k: 0.751 for n = 300.
    assert np.mean([one.coverage for one in found]) == pytest.approx(0.751, abs=0.02)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, synthetic = np.round(4 * normal(50, 2, 0)), np.round(4 * normal(50, 2, 1)) + 8
    whole = precision_recall(real, synthetic), density_coverage(real, synthetic)
    assert 0 < whole[0].precision < 1
    assert 0 < whole[1].coverage < 1
    monkeypatch.setattr(synthetic_neighbors, "QUERY_BLOCK", 7)
    monkeypatch.setattr(synthetic_neighbors, "REFERENCE_BLOCK", 9)
    assert (precision_recall(real, synthetic), density_coverage(real, synthetic)) == whole


@pytest.mark.parametrize("measure", [precision_recall, density_coverage])
def test_refuses_unequal_sets_and_too_few_records(measure) -> None:
    with pytest.raises(InputError, match="equally many"):
        measure(normal(20, 2, 0), normal(21, 2, 1))
    with pytest.raises(InputError, match="give more than 4"):
        measure(normal(4, 2, 0), normal(4, 2, 1), k=4)
