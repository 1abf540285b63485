"""How long this machine takes for a study's steps: each kind timed on a few batches of noise, nothing is kept."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from raymia.adversarial import pgd_20, raise_loss
from raymia.engine.precision import resolve_precision
from raymia.recipes.ground import Ground
from raymia.recipes.rehearsal import noise_like, untrained
from raymia.training.defense import Composed
from raymia.training.loop import Plan, State, train
from raymia.training.run import Alone

_TIMED_BATCHES = 3
_TIMED_IMAGES = 50
# Beyond it a row takes as long as in a smaller batch, and the batch may not fit beside whatever runs here.
_LARGEST_BATCH = 1024
_SMALLEST_BATCH = 2


def gpus_here() -> int:
    """How many GPUs torch finds on this machine."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def timing_device(ground: Ground) -> torch.device:
    """Where the study will train, if this machine has one of these; else its CPU."""
    return torch.device("cuda" if ground.device == "cuda" and gpus_here() else "cpu")


def seconds_a_row(ground: Ground, defense: Composed, batch_size: int, device: torch.device) -> float:
    """Of one worker, for one row of training in batches of that size, after a first epoch of warming up."""
    batch = min(max(batch_size, _SMALLEST_BATCH), _LARGEST_BATCH)
    changes = {"epochs": 2, "schedule": "constant", "learning_rate": 1e-6, "batch_size": batch}
    config = _here(ground, device).config.training.model_copy(update=changes)
    rows = noise_like(ground, batch * _TIMED_BATCHES)
    clock = _Clock(device)
    with _threads(ground.config.engine.threads_per_worker):
        plan = Plan(rows, ground.classes, config, defense, 0, frozenset({2}))
        train(lambda: untrained(ground), plan, clock, Alone(), device)
    return (clock.times[1] - clock.times[0]) / len(rows)


def generator_seconds(ground: Ground, device: torch.device) -> tuple[float, float]:
    """Of one worker, for one iteration of a generator's training; and for asking it once about one image to draw."""
    # Imported here: diffusers takes seconds to load, and few studies generate images.
    from raymia.diffusion.pace import pace_of

    channels, height, width = ground.input_shape
    with _threads(ground.config.engine.threads_per_worker):
        pace = pace_of(_here(ground, device).config.diffusion, (channels, height, width), ground.classes, device)
    return pace.step, pace.evaluation


def seconds_a_pass(ground: Ground, device: torch.device) -> float:
    """Of one worker, for one pass of an attack on one image."""
    images = torch.rand(_TIMED_IMAGES, *ground.input_shape, device=device)
    labels = torch.zeros(_TIMED_IMAGES, dtype=torch.int64, device=device)
    model, rng = untrained(ground).to(device).eval(), np.random.default_rng(0)
    step, clock = pgd_20(ground.config.robustness), _Clock(device)
    with _threads(ground.config.engine.threads_per_worker):
        for timed in range(2):
            raise_loss(model, images, labels, step, rng)
            clock.report(timed)
    return (clock.times[1] - clock.times[0]) / step.steps / _TIMED_IMAGES


def _here(ground: Ground, device: torch.device) -> Ground:
    """The study as it would compute on this device: a number format that only its own has would take for ever."""
    if device.type == ground.device:
        return ground
    precision = resolve_precision("auto", device.type)
    config = ground.config
    sections = {
        "training": config.training.model_copy(update={"precision": precision}),
        "diffusion": config.diffusion.model_copy(update={"precision": precision}),
    }
    return replace(ground, config=config.model_copy(update=sections))


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Clock:
    """A keeper that keeps nothing but the time each epoch ended."""

    def __init__(self, device: torch.device) -> None:
        self.times: list[float] = []
        self._device = device

    def load(self) -> State | None:
        return None

    def save(self, state: State) -> None:
        """Nothing is kept."""

    def snapshot(self, epoch: int, weights: State, history: list[float]) -> None:
        """Nothing is kept."""

    def report(self, epoch: int) -> None:
        # A GPU goes on with what it was asked for.
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.times.append(time.perf_counter())
