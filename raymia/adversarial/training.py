"""Adversarial examples within a training: crafted from a batch, and asked of the model beside it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from raymia.adversarial.pgd import Attack, Gain, craft, only_asked
from raymia.errors import InputError
from raymia.training.defense import Batch, Defense, soft_cross_entropy
from raymia.training.run import Run

EXAMPLES = "adversarial examples"
"""What each method of adversarial training makes in its own way (`Defense.sole`), so that only one of them can."""


@dataclass
class CraftedBatch(Batch):
    """A batch whose records stay as they are, beside what was crafted from them, float[B, ...]."""

    adversarial: Tensor

    @classmethod
    def of(cls, batch: Batch, adversarial: Tensor) -> Self:
        """The batch with its examples."""
        return cls(batch.inputs, batch.labels, batch.targets, adversarial)


def crafts(defense: Defense) -> bool:
    """Whether it is a method of adversarial training."""
    return EXAMPLES in defense.sole


def need_images(run: Run, name: str) -> None:
    """Raises InputError where the records are feature vectors, which have no range of pixels to stay in."""
    if len(run.model.input_shape) != 3:
        raise InputError(
            f"{name}: crafts adversarial images within [0, 1], and these records are feature vectors; choose a data "
            "set of images, or another defense"
        )


def craft_against_targets(run: Run, batch: Batch, attack: Attack) -> Tensor:
    """Examples that raise the cross entropy to the batch's targets, float[B, ...]."""
    return _craft(run, batch, lambda logits: soft_cross_entropy(logits, batch.targets).sum(), attack)


def craft_against_divergence(run: Run, batch: Batch, attack: Attack) -> Tensor:
    """Examples that raise KL(p(x) ‖ p(x')), the model's answer to the record held as it is: float[B, ...]."""
    with _quiet(run), only_asked(run.model), torch.no_grad(), run.autocast():
        logits = run.model(batch.inputs)
    answered = torch.log_softmax(logits.float(), dim=1)
    return _craft(run, batch, lambda logits: divergence(answered, torch.log_softmax(logits, dim=1)).sum(), attack)


def crafted_logits(run: Run, batch: Batch, name: str) -> Tensor:
    """Training-mode logits float32[B, K] of the batch's adversarial examples. Raises InputError where it lost them.

    To be called after a pass of the batch itself through the group's wrapper, which averages the gradients of both: a
    second pass through it would send the batch statistics about once more, in place, between the two.
    """
    if not isinstance(batch, CraftedBatch):
        raise InputError(
            f"{name}: a defense written after it made another batch of the one it crafted from; write {name} after it"
        )
    with run.autocast():
        logits: Tensor = run.model(batch.adversarial)
    return logits.float()


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) in nats per sample [B], of log-probabilities [B, K]; differentiable by both."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def _craft(run: Run, batch: Batch, gain: Gain, attack: Attack) -> Tensor:
    """By the model itself, not through the group's wrapper: each worker crafts its share, alone."""
    with _quiet(run):
        return craft(run.model, batch.inputs, gain, attack, run.rng, run.autocast)


@contextlib.contextmanager
def _quiet(run: Run) -> Iterator[None]:
    """A network that takes gradients record by record, as DP-SGD's does, must not take those of crafting."""
    hooked = hasattr(run.network, "disable_hooks") and hasattr(run.network, "enable_hooks")
    if hooked:
        run.network.disable_hooks()  # type: ignore[operator]
    try:
        yield
    finally:
        if hooked:
            run.network.enable_hooks()  # type: ignore[operator]
