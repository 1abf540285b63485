"""Small trainings of a denoiser: a keeper in memory, a worker of several, a network that writes down what it sees."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raymia.config import DiffusionConfig
from raymia.diffusion import train as module
from raymia.diffusion.denoiser import Denoiser
from raymia.diffusion.train import GeneratorPlan, train_denoiser
from raymia.training.loop import State
from raymia.training.run import Alone, Group
from tests.training.conftest import InterruptedRunError, packed

CPU = torch.device("cpu")


@dataclass
class MemoryKeeper:
    """Keeps bytes, as a store does. stop_at: crash once so many iterations are done."""

    stop_at: int | None = None
    checkpoint: bytes | None = None
    saved: list[int] = field(default_factory=list)
    reported: list[int] = field(default_factory=list)
    weights: State = field(default_factory=dict)
    history: list[float] = field(default_factory=list)
    ended: int | None = None

    def load(self) -> State | None:
        return None if self.checkpoint is None else torch.load(io.BytesIO(self.checkpoint), weights_only=True)

    def save(self, state: State) -> None:
        self.checkpoint = packed(state)
        self.saved.append(state["iteration"])

    def snapshot(self, epoch: int, weights: State, history: list[float]) -> None:
        self.ended, self.history = epoch, list(history)
        self.weights = torch.load(io.BytesIO(packed(weights)), weights_only=True)

    def report(self, epoch: int) -> None:
        self.reported.append(epoch)
        if self.stop_at is not None and epoch >= self.stop_at:
            raise InterruptedRunError


class Worker:
    """One worker of several, whose gradients stay its own. seen: its gradients, in the order they came."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self.seen: list[Tensor] = []

    def wrap(self, model: nn.Module) -> nn.Module:
        for parameter in model.parameters():
            parameter.register_hook(lambda gradient: self.seen.append(gradient.clone()))
        return model

    def mean(self, value: float) -> float:
        return value


def small_plan(count: int = 11, size: int = 4, precision: str = "fp32", **changes: Any) -> GeneratorPlan:
    """Random images in batches that do not divide them, with everything random switched on."""
    values: dict[str, Any] = {
        "channels": (4, 8),
        "attention": (1,),
        "dropout": 0.2,
        "timesteps": 40,
        "beta_end": 0.3,
        "iterations": 12,
        "batch_size": 4,
        "learning_rate": 0.01,
        "flip": True,
        "checkpoint_every": 4,
    }
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, size, size, 1), dtype=np.uint8)
    return GeneratorPlan(images, np.arange(count) % 3, 3, DiffusionConfig(**(values | changes)), 5, precision)


def fit(plan: GeneratorPlan, keeper: MemoryKeeper | None = None, group: Group | None = None) -> MemoryKeeper:
    keeper = keeper or MemoryKeeper()
    train_denoiser(plan, keeper, group or Alone(), CPU)
    return keeper


@dataclass(frozen=True)
class Seen:
    noisy: Tensor
    timesteps: Tensor
    labels: Tensor


class Recorder(nn.Module):
    """Predicts one number for all pixels, 0 at first, and remembers what it was asked. change: of each prediction."""

    def __init__(self, change: Callable[[int, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))
        self.seen: list[Seen] = []
        self._change = change or (lambda call, prediction: prediction)

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor, return_dict: bool) -> tuple[Tensor]:
        self.seen.append(Seen(noisy.detach().clone(), timesteps, labels))
        return (self._change(len(self.seen), torch.zeros_like(noisy) + self.level),)


def install(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.setattr(
        module, "build_denoiser", lambda config, shape, classes: Denoiser(recorder, shape, classes, True)
    )
    return recorder
