"""How fast a denoiser trains and draws on this machine, timed on a few batches."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from raymia.config import DiffusionConfig
from raymia.diffusion.denoiser import build_denoiser, computing, placed

_TIMED = 2
_BATCH = 16


@dataclass(frozen=True)
class Pace:
    """step: seconds of one training iteration of one worker. evaluation: of the network, for one image."""

    step: float
    evaluation: float


def pace_of(config: DiffusionConfig, input_shape: tuple[int, int, int], classes: int) -> Pace:
    """Time the network of these settings (precision resolved) on noise, with the threads that torch has now."""
    with torch.random.fork_rng():
        denoiser = placed(build_denoiser(config, input_shape, classes), torch.device("cpu"))
        batch = torch.randn(_BATCH, *input_shape)
    times, labels = torch.zeros(_BATCH, dtype=torch.int64), torch.zeros(_BATCH, dtype=torch.int64)

    def train_step() -> None:
        with computing(config.precision, batch.device):
            loss = denoiser(batch, times, labels).square().mean()
        loss.backward()

    def evaluate() -> None:
        with torch.no_grad():
            denoiser(batch, times, labels)

    return Pace(_seconds(train_step) * config.batch_size / _BATCH, _seconds(evaluate) / _BATCH)


def _seconds(call: Callable[[], None]) -> float:
    call()
    started = time.perf_counter()
    for _ in range(_TIMED):
        call()
    return (time.perf_counter() - started) / _TIMED
