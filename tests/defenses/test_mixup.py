"""mixup against its equations."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from raymia.defenses import LabelSmoothing, Mixup
from raymia.training.defense import Batch, soft_cross_entropy
from tests.training.conftest import batch_of, fit, image_rows, run_by_hand, small_config


def mixed(alpha: float, seed: int, batch: Batch) -> tuple[Batch, float, torch.Tensor]:
    """The mixed batch, with the λ and the partners that the same stream gives."""
    run = run_by_hand(Mixup(alpha=alpha))
    run.rng = np.random.default_rng(seed)
    rng = np.random.default_rng(seed)
    weight = float(rng.beta(alpha, alpha))
    partner = torch.from_numpy(rng.permutation(len(batch.labels)))
    return run.defense.batch(run, batch), weight, partner


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_the_papers_weighted_sum(seed: int) -> None:
    """λ CE(f(x̃), y) + (1-λ) CE(f(x̃), y_π), with torch's own cross entropy on hard labels."""
    batch = batch_of(np.random.default_rng(seed).normal(size=(6, 3)), [0, 1, 2, 0, 1, 1])
    result, weight, partner = mixed(0.7, seed, batch)
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))
    expected = weight * cross_entropy(logits, batch.labels, reduction="none")
    expected += (1 - weight) * cross_entropy(logits, batch.labels[partner], reduction="none")
    torch.testing.assert_close(soft_cross_entropy(logits, result.targets), expected)
    torch.testing.assert_close(result.inputs, weight * batch.inputs + (1 - weight) * batch.inputs[partner])
    assert torch.equal(result.labels, batch.labels)
    assert 0 < weight < 1


def test_the_batch_handed_in_is_left_as_it_was() -> None:
    batch = batch_of(np.eye(3), [0, 1, 2])
    mixed(1.0, 0, batch)
    assert torch.equal(batch.inputs, torch.eye(3))
    assert torch.equal(batch.targets, torch.eye(3))


def weights(alpha: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """λ of 3,000 batches: what a record keeps of its own class, unless it is its own partner."""
    run = run_by_hand(Mixup(alpha=alpha), classes=8)
    batch = batch_of(np.eye(8), list(range(8)), classes=8)
    return np.array([float(run.defense.batch(run, batch).targets.diagonal().min()) for _ in range(3000)])


@pytest.mark.parametrize(("alpha", "variance"), [(0.1, 0.25 / 1.2), (0.5, 0.125), (1.0, 1 / 12), (4.0, 0.25 / 9)])
def test_the_weights_are_beta_distributed(alpha: float, variance: float) -> None:
    """Beta(α, α) has mean 1/2 and variance 1/(4(2α+1))."""
    drawn = weights(alpha)
    assert drawn.mean() == pytest.approx(0.5, abs=0.05)
    assert drawn.var() == pytest.approx(variance, rel=0.15)


def test_smoothed_targets_are_mixed_as_they_are() -> None:
    config = small_config(epochs=2)
    plain = fit(image_rows(), config, Mixup(alpha=1)).histories[2]
    assert fit(image_rows(), config, LabelSmoothing(epsilon=0.4), Mixup(alpha=1)).histories[2] != plain
