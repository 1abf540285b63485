"""How fast a denoiser trains and draws on this machine, timed on a few batches; and what it takes on disk."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from raymia.config import DiffusionConfig
from raymia.diffusion.denoiser import build_denoiser, computing, placed

_TIMED = 2
# On a CPU a few images take as long each as many; a GPU is kept busy only by as many as it will have.
_BATCH = {"cpu": 16, "cuda": 128}


@dataclass(frozen=True)
class Pace:
    """step: seconds of one training iteration of one worker. evaluation: of the network, for one image."""

    step: float
    evaluation: float


def pace_of(config: DiffusionConfig, input_shape: tuple[int, int, int], classes: int, device: torch.device) -> Pace:
    """Time the network of these settings (precision resolved) on noise, with the threads that torch has now."""
    count = min(_BATCH[device.type], config.batch_size)
    with torch.random.fork_rng([]):
        denoiser = placed(build_denoiser(config, input_shape, classes), device)
        batch = torch.randn(count, *input_shape).to(device)
    times = labels = torch.zeros(count, dtype=torch.int64, device=device)

    def train_step() -> None:
        with computing(config.precision, device):
            loss = denoiser(batch, times, labels).square().mean()
        loss.backward()

    def evaluate() -> None:
        with torch.no_grad():
            denoiser(batch, times, labels)

    return Pace(_seconds(train_step, device) * config.batch_size / count, _seconds(evaluate, device) / count)


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    call()
    finish(device)
    started = time.perf_counter()
    for _ in range(_TIMED):
        call()
    finish(device)
    return (time.perf_counter() - started) / _TIMED


def finish(device: torch.device) -> None:
    """Wait for all that was asked of a device: a GPU's clock is its own."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def denoiser_bytes(config: DiffusionConfig, input_shape: tuple[int, int, int], classes: int) -> int:
    """What the network's weights take, as they are kept: no moving average, no optimizer's state beside them."""
    with torch.device("meta"):
        weights = build_denoiser(config, input_shape, classes).state_dict().values()
    return sum(values.numel() * values.element_size() for values in weights)
