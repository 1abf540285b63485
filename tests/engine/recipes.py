"""Recipes that only leave a line when they are built, and fail when they are told to."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
import torch

from raymia.errors import DivergedError
from raymia.recipes.recipe import Bench, Recipe
from tests.engine.models import note, once


@dataclass(frozen=True)
class Noted:
    """A recipe of one artifact. folder: where it leaves its lines. act: what else it does, as a function."""

    key: str
    folder: str
    act: Callable[["Noted", Bench], None] | None = None
    parts: tuple["Noted", ...] = ()

    kind = "scores"
    workers = 1
    threads = 1
    gpus = 0.0

    @property
    def label(self) -> str:
        return f"noted {self.key}"

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"noted/{self.key}",)

    def requires(self) -> Sequence[Recipe]:
        return self.parts

    def build(self, bench: Bench) -> None:
        note(self.folder, self.key)
        for part in self.parts:
            bench.store.read(part.artifacts[0])
        if self.act is not None:
            self.act(self, bench)
        bench.store.write(self.artifacts[0], b"made", {})


def slowly(recipe: Noted, bench: Bench) -> None:
    """Long enough for whoever else asks."""
    time.sleep(0.5)


def fail_at_first(recipe: Noted, bench: Bench) -> None:
    """An error that goes away."""
    if once(recipe.folder, f"{recipe.key}-failed"):
        raise OSError("the disk is away")


def diverge(recipe: Noted, bench: Bench) -> None:
    """An error that another try would meet again."""
    raise DivergedError("training diverged at epoch 3: the loss is nan")


def be_killed_at_first(recipe: Noted, bench: Bench) -> None:
    """What the kernel does to a process when memory runs out."""
    if once(recipe.folder, f"{recipe.key}-killed"):
        os.kill(os.getpid(), signal.SIGKILL)


def scribble(recipe: Noted, bench: Bench) -> None:
    """Write straight into the shared records."""
    bench.records.inputs[:] = 0


def wait_for_release(recipe: Noted, bench: Bench) -> None:
    """Report progress, then wait until the test lets go."""
    bench.report(3, 7)
    deadline = time.monotonic() + 120
    while not Path(recipe.folder, "release").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("nobody let go")
        time.sleep(0.02)


def note_threads(recipe: Noted, bench: Bench) -> None:
    """Leave what Ray set aside for this build, and what torch would use."""
    cpus = ray.get_runtime_context().get_assigned_resources()["CPU"]
    note(recipe.folder, f"{cpus:g} CPUs, {torch.get_num_threads()} threads")
