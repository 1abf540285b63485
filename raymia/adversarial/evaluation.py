"""PGD against a finished model: what it withstands, and what it answers to its own adversarial examples."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from raymia.adversarial.pgd import Attack, craft, only_asked
from raymia.config import RobustnessConfig

PASSES = {"pgd20": 20, "aa": 100 + 9 * 100 + 9 * 100 + 5000 // 3}
"""Forward and backward passes an image that withstands each evaluation; a forward pass alone counts a third."""


def pgd_20(config: RobustnessConfig) -> Attack:
    """20 steps from a uniform start, as robust accuracies are reported since Madry et al. (2018)."""
    return Attack(config.norm, config.epsilon, 20, config.step_size)


def raise_loss(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, rng: np.random.Generator) -> Tensor:
    """Examples of images float32[B, C, H, W] in [0, 1] that raise the cross entropy to labels int64[B]."""
    return craft(model, images, lambda logits: functional.cross_entropy(logits, labels, reduction="sum"), attack, rng)


def pgd_correct(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: Attack,
    rng: np.random.Generator,
    *,
    restarts: int = 1,
    batch_size: int = 256,
) -> NDArray[np.bool_]:
    """bool[n]: the records that a model answers rightly as they are and after every one of the attack's restarts.

    images: float32[n, C, H, W] in [0, 1], labels: int64[n], both on the model's device. The attack raises the cross
    entropy to the label; the starts depend on rng and the order of the records alone. Raises ValueError for images
    outside of the range.
    """
    check_pixels(images)
    parts = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    found = [_withstood(model, *part, attack, rng, restarts) for part in parts]
    return np.concatenate([np.zeros(0, dtype=bool), *(one.cpu().numpy() for one in found)])


def check_pixels(images: Tensor) -> None:
    """Raise ValueError for images outside of [0, 1]."""
    if len(images) and not (float(images.min()) >= 0 and float(images.max()) <= 1):
        raise ValueError("images must be in [0, 1]: the model normalizes them itself")


def _withstood(
    model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, rng: np.random.Generator, restarts: int
) -> Tensor:
    right = _answers(model, images) == labels
    for _ in range(restarts):
        right &= _answers(model, raise_loss(model, images, labels, attack, rng)) == labels
    return right


def _answers(model: nn.Module, images: Tensor) -> Tensor:
    with only_asked(model), torch.no_grad():
        answers: Tensor = model(images).argmax(dim=1)
    return answers
