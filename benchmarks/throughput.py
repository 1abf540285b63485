"""Training throughput of the engine's loop, as a ratio to plain PyTorch loops."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks import bare
from benchmarks.figure import Figure, spread
from benchmarks.workload import THREADS, noise_images, training
from raymia.config import TrainingConfig
from raymia.models import build_model
from raymia.records import Records
from raymia.training.defense import Composed, TrainingSet
from raymia.training.loop import Plan, State, train
from raymia.training.run import Alone

UNDEFENDED = Composed(())


class _Clock:
    """A keeper that keeps nothing but the time at which each epoch ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def load(self) -> State | None:
        return None

    def save(self, state: State) -> None:
        """Checkpoints are written every few epochs; their time is no part of an epoch's here."""

    def snapshot(self, epoch: int, weights: State, history: list[float]) -> None:
        """See `save`."""

    def report(self, epoch: int) -> None:
        self.ends.append(time.perf_counter())


def engine_epochs(
    records: Records,
    name: str,
    options: dict[str, Any],
    settings: TrainingConfig,
    defense: Composed = UNDEFENDED,
) -> list[float]:
    """Wall time of each epoch but the first of raymia's loop, on one thread."""
    torch.set_num_threads(THREADS)
    clock = _Clock()
    height, width, channels = records.inputs.shape[1:]
    shape = (channels, height, width)
    rows = TrainingSet(records.inputs, records.labels)
    plan = Plan(rows, records.classes, settings, defense, 0, frozenset({settings.epochs}))
    train(lambda: build_model(name, shape, records.classes, options), plan, clock, Alone(), torch.device("cpu"))
    return [end - start for start, end in zip(clock.ends, clock.ends[1:], strict=False)]


def _ratio(
    ours: Callable[[], list[float]], theirs: Callable[[], list[float]], rounds: int
) -> tuple[float, list[float], list[float]]:
    """Their time over ours, from epochs of both in turns: what else the machine does meets both alike."""
    our_times, their_times, ratios = [], [], []
    for _ in range(rounds):
        mine, other = ours(), theirs()[1:]  # the first epoch of each warms up
        our_times += mine
        their_times += other
        ratios.append(statistics.median(other) / statistics.median(mine))
    return statistics.median(ratios), our_times, their_times


def same_settings(small: bool) -> list[Figure]:
    """raymia's loop against a bare loop with the same precision, memory format and threads (the desk's ResNet18)."""
    found = []
    shapes: list[tuple[str, dict[str, Any], int, int, int]] = [("resnet18", {"width": 16}, 32, 64, 1024)]
    shapes.append(("cnn", {}, 8, 50, 150))
    for name, options, side, batch_size, count in shapes:
        records = noise_images(count // 8 if small and side == 32 else count, side, 3 if side == 32 else 1)
        epochs = 3 if side == 32 else 40
        settings = training(epochs, batch_size, "auto" if side == 32 else "fp32")
        ratio, ours, theirs = _ratio(
            partial(engine_epochs, records, name, options, settings),
            partial(bare.epoch_seconds, records, name, options, settings, channels_last=True, threads=THREADS),
            2 if small else 5,
        )
        how = (
            f"{len(records)} images of {side}×{side}, {settings.precision}, batch {batch_size}, seconds an epoch: "
            f"raymia {spread(ours)}; bare {spread(theirs)}"
        )
        # The target is for a model worth waiting for; an epoch of the digits' net takes some 20 ms.
        target = (">=", 0.97) if side == 32 else None
        found.append(Figure(f"throughput of train() / bare loop, {name} {options or ''}", ratio, "×", target, how))
    return found


def default_settings(small: bool) -> list[Figure]:
    """raymia's loop, one thread, against what plain PyTorch does by default (fp32, NCHW), full ResNet18.

    At paper 1's batch of 128, and at DeMem's of 256. The smaller the batch, the less bf16 gains: 1.9× at 64.
    """
    options = {"width": 16 if small else 64}
    found = []
    for batch_size, threads in ((32, 1),) if small else ((256, 1), (128, 1), (128, 2)):
        records = noise_images(2 * batch_size)
        fast, plain = training(2, batch_size), training(2, batch_size, "fp32")
        ratio, ours, theirs = _ratio(
            partial(engine_epochs, records, "resnet18", options, fast),
            partial(bare.epoch_seconds, records, "resnet18", options, plain, channels_last=False, threads=threads),
            1 if small else 3,
        )
        how = (
            f"ResNet18 width {options['width']}, {len(records)} images of 32×32, {fast.precision} on {THREADS} thread, "
            f"seconds an epoch: raymia {spread(ours)}; bare fp32 {spread(theirs)}"
        )
        target = (">=", 2.5) if threads == 1 else None
        found.append(
            Figure(
                f"throughput of train() / bare fp32 on {threads} thread(s), batch {batch_size}", ratio, "×", target, how
            )
        )
    return found
