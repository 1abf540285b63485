"""Runs on tiny images, and workers that are threads."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from raymia.config import TrainingConfig
from raymia.models import Classifier
from raymia.training.defense import Batch, Composed, Defense
from raymia.training.run import Alone, Group, Run, shuffled_batches

CPU = torch.device("cpu")
SHAPE = (1, 2, 2)
CLASSES = 3

Result = TypeVar("Result")


def linear(classes: int = CLASSES, seed: int = 0) -> Any:
    """Logits that are linear in the four pixels."""
    weights = np.random.default_rng(seed).normal(size=(classes, 4)).astype(np.float32)
    net: Any = nn.Sequential(nn.Flatten(), nn.Linear(4, classes))
    net[1].weight.data.copy_(torch.from_numpy(weights))
    net[1].bias.data.zero_()
    return net


def normalized() -> Any:
    """A network with batch normalization and dropout."""
    torch.manual_seed(3)
    convolution = nn.Conv2d(1, 4, 3, padding=1)
    return nn.Sequential(
        convolution, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, CLASSES)
    )


def image_run(
    *defenses: Defense,
    net: nn.Module | None = None,
    classes: int = CLASSES,
    group: Group | None = None,
    precision: str = "fp32",
    rate: float = 1.0,
    prepared: bool = True,
) -> Run:
    """A run on images of 2 × 2 pixels, in training mode, by plain SGD."""
    model = Classifier(net or linear(classes), SHAPE, classes)
    group = group or Alone()
    run = Run(
        model=model,
        network=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=rate),
        rows=8,
        sampler=shuffled_batches(8, 4, 0, group),
        config=TrainingConfig.model_validate({"precision": precision, "learning_rate": rate}),
        defense=Composed(defenses),
        classes=classes,
        device=CPU,
        seed=0,
        group=group,
        epoch=0,
        rng=np.random.default_rng(0),
        inputs={},
    )
    if prepared:
        run.defense.prepare(run)
    run.network.train()
    return run


def images(count: int, seed: int = 0, low: float = 0.0, high: float = 1.0) -> Tensor:
    """float32[count, 1, 2, 2]."""
    values = np.random.default_rng(seed).uniform(low, high, (count, *SHAPE))
    return torch.from_numpy(values.astype(np.float32))


def image_batch(count: int, seed: int = 0, classes: int = CLASSES) -> Batch:
    """Random images with random one-hot labels."""
    labels = torch.from_numpy(np.random.default_rng(seed + 1).integers(0, classes, count))
    return Batch(images(count, seed), labels, torch.eye(classes)[labels])


class Thread:
    """One worker of several, each in a thread of its own."""

    def __init__(self, rank: int, world: int, barrier: threading.Barrier, board: list[float]) -> None:
        self.rank, self.world = rank, world
        self._barrier, self._board = barrier, board

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def mean(self, value: float) -> float:
        self._board[self.rank] = value
        self._barrier.wait(timeout=20)
        total = sum(self._board)
        self._barrier.wait(timeout=20)
        return total / self.world


def together(world: int, work: Callable[[Group], Result]) -> list[Result]:
    """What each worker of a group makes of it, by rank."""
    barrier, board = threading.Barrier(world), [0.0] * world

    def begin(rank: int) -> Result:
        try:
            return work(Thread(rank, world, barrier, board))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(begin, range(world)))


def passed_on() -> Any:
    """Logits that are the first three pixels, whatever their range, plus a bias of zeros."""
    net = linear()
    net[1].weight.data.copy_(torch.eye(CLASSES, 4))
    return net


def of_logits(logits: list[list[float]]) -> Tensor:
    """Images float32[B, 1, 2, 2] that such a network answers with these logits."""
    values = torch.tensor(logits, dtype=torch.float32)
    return torch.cat([values, torch.zeros(len(values), 1)], dim=1).reshape(-1, *SHAPE)
