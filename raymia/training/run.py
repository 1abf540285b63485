"""One training in progress: what the loop works on and what a defense's hooks are handed."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raymia.config import TrainingConfig
from raymia.models import Classifier
from raymia.seeds import derive_seed, generator
from raymia.training.defense import Batch, Composed, Losses, soft_cross_entropy
from raymia.training.schedule import rate_factor

Sampler = Callable[[int], Iterator[NDArray[np.int64]]]


class Group(Protocol):
    """The workers that train one model together."""

    rank: int
    world: int

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose backward averages gradients over the group."""
        ...

    def mean(self, value: float) -> float:
        """The mean of a number over the group, the same on every worker."""
        ...


class Alone:
    """A group of one."""

    rank = 0
    world = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def mean(self, value: float) -> float:
        return value


@dataclass
class Run:
    """State of one training. Defenses may replace `network`, `optimizer` and `sampler` in `prepare`.

    model: the classifier itself, whose weights are kept. network: what the forward pass goes through (the model, or
    its wrapper). rows: how many the training set has. sampler: epoch -> batches of row numbers (int64). rng: this
    epoch's and worker's random stream. inputs: the artifacts that the defense required, by name. state: what a defense
    must find again when the training is resumed (tensors, numbers, dicts and lists of them), by the defense's name.
    """

    model: Classifier
    network: nn.Module
    optimizer: torch.optim.Optimizer
    rows: int
    sampler: Sampler
    config: TrainingConfig
    defense: Composed
    classes: int
    device: torch.device
    seed: int
    group: Group
    epoch: int
    rng: np.random.Generator
    inputs: Mapping[str, Any]
    state: dict[str, Any] = field(default_factory=dict)

    def forward(self, inputs: Tensor) -> Tensor:
        """Training-mode logits [B, K] in the study's precision."""
        with self.autocast():
            logits: Tensor = self.network(inputs)
        return logits

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The study's precision for whatever runs inside."""
        if self.config.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def losses(self, batch: Batch) -> Losses:
        """The defended losses of a batch, at the model's present weights."""

        def plain() -> Losses:
            logits = self.forward(batch.inputs)
            per_sample = soft_cross_entropy(logits, batch.targets)
            return Losses({"ce": per_sample}, per_sample.mean(), logits)

        return self.defense.losses(self, batch, plain)

    def step(self, batch: Batch, batch_total: int) -> Tensor:
        """One defended optimizer step on this worker's share of a batch of `batch_total` records; returns the loss."""

        def plain() -> Tensor:
            total = self.losses(batch).total
            self.optimizer.zero_grad(set_to_none=True)
            # The group averages gradients over workers; shares of a last batch may differ in size.
            share = len(batch.labels) * self.group.world / batch_total
            (total if share == 1 else total * share).backward()
            self.optimizer.step()
            return total.detach()

        return self.defense.update(self, batch, plain)

    def begin_epoch(self, epoch: int) -> None:
        """Set every random stream to this epoch's start: a resumed training draws what an undisturbed one would."""
        self.epoch = epoch
        self.rng = generator(self.seed, "batches", epoch, self.group.rank)
        torch.manual_seed(derive_seed(self.seed, "torch", epoch, self.group.rank))

    def set_rate(self, progress: float) -> None:
        """Set the learning rates for this fraction of the training done, from those the optimizer began with."""
        for group in self.optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate_factor(self.config, progress)


def shuffled_batches(rows: int, batch_size: int, seed: int, group: Group) -> Sampler:
    """A sampler of shuffled batches: the same order on every worker, each of which takes its share of each batch.

    A last batch that would leave a worker fewer than two records is left out of that epoch (batch normalization needs
    two); the shuffle decides which records those are.
    """

    def batches(epoch: int) -> Iterator[NDArray[np.int64]]:
        order = generator(seed, "order", epoch).permutation(rows)
        for start in range(0, rows, batch_size):
            numbers = order[start : start + batch_size]
            if len(numbers) >= 2 * group.world:
                yield numbers

    return batches
