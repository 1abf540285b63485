"""The one training loop. It knows no defense, no Ray and no MLflow."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raymia.config import TrainingConfig
from raymia.errors import DivergedError
from raymia.models import Classifier
from raymia.seeds import derive_seed
from raymia.training.defense import Composed, TrainingSet
from raymia.training.rows import Fetch, Inputs, Rows, in_order
from raymia.training.run import Group, Run, shuffled_batches

_CHUNK_BYTES = 2**22

State = dict[str, Any]


class Keeper(Protocol):
    """Where a training leaves what must survive it, and says how far it is."""

    def load(self) -> State | None:
        """The last checkpoint, or None."""
        ...

    def save(self, state: State) -> None:
        """Keep a checkpoint in place of the last one."""
        ...

    def snapshot(self, epoch: int, weights: State, history: list[float]) -> None:
        """Keep the model as it is after `epoch` epochs."""
        ...

    def report(self, epoch: int) -> None:
        """So many epochs are done."""
        ...


@dataclass(frozen=True)
class Plan:
    """What to train: the rows, how, under which defense, from which seed, and after which epochs to keep the model.

    inputs: the artifacts that the defense required, by name. fetch: how inputs that are stored are read.
    """

    rows: TrainingSet
    classes: int
    config: TrainingConfig
    defense: Composed
    seed: int
    snapshots: frozenset[int]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    fetch: Fetch = in_order


def train(build: Callable[[], Classifier], plan: Plan, keeper: Keeper, group: Group, device: torch.device) -> None:
    """Train a model and keep it after each epoch of `plan.snapshots`.

    build: makes the untrained model from torch's global random state. The same plan gives the same weights bit for
    bit on the same kind of CPU, interrupted and resumed at any checkpoint or not, its rows in memory or stored. Stops
    after the last snapshot: the schedule does not depend on it. Raises DivergedError, with the epoch, when the loss is
    no longer finite.
    """
    with torch.random.fork_rng():
        run = begin(build, plan, group, device)
        history, done = _resume(run, keeper, first=min(plan.snapshots))
        rows = Rows(plan.rows, plan.classes, device, plan.fetch)
        if done in plan.snapshots and group.rank == 0:
            # The last checkpoint fell on an epoch whose model was not asked for then.
            keeper.snapshot(done, run.model.state_dict(), history)
        for epoch in range(done, max(plan.snapshots)):
            history.append(_one_epoch(run, rows))
            _keep(run, keeper, plan, history)
            if epoch + 1 < plan.config.epochs:
                run.begin_epoch(epoch + 1)


def begin(build: Callable[[], Classifier], plan: Plan, group: Group, device: torch.device) -> Run:
    """A training before its first step, in torch's global random state. Raises InputError for a model that one of the
    defenses cannot train.
    """
    torch.manual_seed(derive_seed(plan.seed, "weights"))
    model = plan.defense.architecture(build()).to(device)
    if len(plan.rows.inputs.shape) == 4:
        model = model.to(memory_format=torch.channels_last)
    mean, std = input_statistics(plan.rows.inputs, plan.fetch)
    model.set_normalization(torch.from_numpy(mean).to(device), torch.from_numpy(std).to(device))
    run = Run(
        model=model,
        network=model,
        optimizer=_optimizer(model.parameters(), plan.config),
        rows=len(plan.rows),
        sampler=shuffled_batches(len(plan.rows), plan.config.batch_size, plan.seed, group),
        config=plan.config,
        defense=plan.defense,
        classes=plan.classes,
        device=device,
        seed=plan.seed,
        group=group,
        epoch=0,
        rng=np.random.default_rng(0),
        inputs=plan.inputs,
    )
    plan.defense.prepare(run)
    run.network = group.wrap(run.network)
    run.begin_epoch(0)
    return run


def _optimizer(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def _resume(run: Run, keeper: Keeper, first: int) -> tuple[list[float], int]:
    """Continue from the last checkpoint, unless it is past the first snapshot still wanted."""
    state = keeper.load()
    if state is None or state["epoch"] > first:
        return [], 0
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.state = state["defense"]
    done = int(state["epoch"])
    if done < run.config.epochs:
        run.begin_epoch(done)
    return list(state["history"]), done


def _one_epoch(run: Run, rows: Rows) -> float:
    run.network.train()
    total = torch.zeros((), dtype=torch.float64, device=run.device)
    batches = list(run.sampler(run.epoch))
    shares = [np.array_split(numbers, run.group.world)[run.group.rank] for numbers in batches]
    with closing(rows.batches(shares, run.config.augmentation, run.rng)) as handed:
        for step, (numbers, plain) in enumerate(zip(batches, handed, strict=True)):
            run.set_rate((run.epoch + step / len(batches)) / run.config.epochs)
            total += run.step(run.defense.batch(run, plain), len(numbers))
    loss = run.group.mean(float(total) / max(len(batches), 1))
    if not math.isfinite(loss):
        raise _diverged(run, f"the loss is {loss}")
    return loss


def _diverged(run: Run, what: str) -> DivergedError:
    return DivergedError(f"training diverged at epoch {run.epoch + 1}: {what}; lower training.learning_rate")


def _keep(run: Run, keeper: Keeper, plan: Plan, history: list[float]) -> None:
    done = run.epoch + 1
    if done in plan.snapshots and not all(bool(torch.isfinite(value).all()) for value in run.model.parameters()):
        # An epoch's loss is from before its last step.
        raise _diverged(run, "the weights are no longer finite")
    if run.group.rank == 0:
        if done in plan.snapshots:
            keeper.snapshot(done, run.model.state_dict(), history)
        if done % plan.config.checkpoint_every == 0 and done < max(plan.snapshots):
            keeper.save(
                {
                    "epoch": done,
                    "model": run.model.state_dict(),
                    "optimizer": run.optimizer.state_dict(),
                    "history": history,
                    "defense": run.state,
                }
            )
    keeper.report(done)


def input_statistics(inputs: Inputs, fetch: Fetch = in_order) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of training inputs: per channel in [0, 1] units for images, else per feature.

    A constant channel or feature gets deviation 1. Exact for images (from counts of the 256 values), which may be
    stored: `fetch` reads them.
    """
    if isinstance(inputs, np.ndarray) and inputs.dtype != np.uint8:
        mean = inputs.mean(axis=0, dtype=np.float64)
        std = inputs.std(axis=0, dtype=np.float64)
    else:
        counts = reduce(np.add, map(_value_counts, _chunks(inputs, fetch)))
        values = np.arange(256) / 255.0
        mean = (counts @ values) / counts.sum(axis=1)
        variance = (counts @ values**2) / counts.sum(axis=1) - mean**2
        std = np.sqrt(np.maximum(variance, 0.0))
    return mean.astype(np.float32), np.where(std < 1e-6, 1.0, std).astype(np.float32)


def _chunks(inputs: Inputs, fetch: Fetch) -> Iterator[NDArray[Any]]:
    """Images a few MiB at a time: their values are counted as 64-bit numbers."""
    size = max(1, _CHUNK_BYTES // math.prod(inputs.shape[1:]))
    if isinstance(inputs, np.ndarray):
        return (inputs[first : first + size] for first in range(0, len(inputs), size))
    return fetch(inputs, np.split(np.arange(len(inputs)), range(size, len(inputs), size)))


def _value_counts(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """int64[channels, 256]: how often each value occurs."""
    return np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[3])])
