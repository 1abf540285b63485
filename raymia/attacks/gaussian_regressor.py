"""A small net that predicts the mean and the spread of a number from a record and its class."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import one_hot

Floats = NDArray[np.float64]
Inputs = NDArray[Any]

_WIDTH = 64
_LARGEST_LOG = 5.0  # |log sigma| of the standardized number stays below
_SMALLEST_SCALE = 1e-6
_BLOCK = 512


@dataclass(frozen=True)
class Steps:
    """Adam at a constant learning rate. A tenth of the records is held out; the weights that serve it best are kept.

    steps: at most. every: steps between two looks at the held-out records. patience: looks without a gain that end the
    training. held_out: records held out at most.
    """

    steps: int = 2000
    batch: int = 128
    learning_rate: float = 1e-3
    every: int = 50
    patience: int = 10
    held_out: int = 2000


@dataclass(frozen=True)
class GaussianRegressor:
    """A trained net, in float64. Inputs are standardized by shift and scale (of a channel or feature), the number by
    mean and deviation.
    """

    net: nn.Module
    classes: int
    shift: Tensor
    scale: Tensor
    mean: float
    deviation: float

    def standardized(self, inputs_N: Inputs, labels_N: NDArray[np.int64], values_N: Floats) -> Floats:
        """(value - mu) / sigma, float64[N].

        Rounded to float32's digits: sums of a convolution depend, in the last digits, on the records beside it.
        """
        parts = []
        with one_thread(), torch.no_grad():
            for start in range(0, max(len(labels_N), 1), _BLOCK):
                rows = slice(start, start + _BLOCK)
                inputs = (_channels_first(inputs_N[rows]).double() - self.shift) / self.scale
                mean_N, log_N = _heads(self.net, inputs, torch.from_numpy(labels_N[rows]), self.classes)
                wanted_N = torch.from_numpy((values_N[rows] - self.mean) / self.deviation)
                parts.append(((wanted_N - mean_N) / log_N.exp()).numpy())
        return np.concatenate(parts).astype(np.float32).astype(np.float64)


def train_gaussian_regressor(
    inputs_N: Inputs,
    labels_N: NDArray[np.int64],
    values_N: Floats,
    classes: int,
    steps: Steps,
    rng: np.random.Generator,
) -> GaussianRegressor:
    """Least negative log likelihood, log sigma + (value - mu)² / (2 sigma²).

    inputs_N: uint8 images [N, H, W, channels] (a small convolutional net) or float32 features [N, F] (a perceptron), N
    at least 2. The class enters as a one-hot vector. All randomness comes from rng; torch's global generator and
    number of threads are left as they were.
    """
    mean, deviation = float(values_N.mean()), max(float(values_N.std()), _SMALLEST_SCALE)
    inputs = _channels_first(inputs_N)
    everywhere = [axis for axis in range(inputs.ndim) if axis != 1]
    shift = inputs.mean(dim=everywhere, keepdim=True)
    scale = inputs.std(dim=everywhere, keepdim=True, correction=0).clamp(min=_SMALLEST_SCALE)
    wanted = torch.from_numpy(((values_N - mean) / deviation).astype(np.float32))
    data = ((inputs - shift) / scale, torch.from_numpy(labels_N), wanted)
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        net = _Net(inputs.shape[1], inputs.ndim == 4, classes)
        _descend(net, data, classes, steps, rng)
    return GaussianRegressor(net.double().eval(), classes, shift.double(), scale.double(), mean, deviation)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of several threads come in no fixed order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _Net(nn.Module):
    """Inputs and class -> mu, log sigma."""

    def __init__(self, channels: int, images: bool, classes: int) -> None:
        super().__init__()
        if images:
            self.features = nn.Sequential(
                *(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
                *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
                *(nn.Conv2d(32, _WIDTH, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            )
        else:
            self.features = nn.Sequential(nn.Linear(channels, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH), nn.ReLU())
        self.heads = nn.Sequential(nn.Linear(_WIDTH + classes, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, 2))

    def forward(self, inputs: Tensor, classes: Tensor) -> Tensor:
        outputs: Tensor = self.heads(torch.cat([self.features(inputs), classes], dim=1))
        return outputs


def _heads(net: nn.Module, inputs: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    outputs = net(inputs, one_hot(labels, classes).to(inputs.dtype))
    return outputs[:, 0], _LARGEST_LOG * torch.tanh(outputs[:, 1] / _LARGEST_LOG)


def _negative_log_likelihood(net: nn.Module, data: tuple[Tensor, Tensor, Tensor], classes: int) -> Tensor:
    inputs, labels, wanted = data
    mean, log = _heads(net, inputs, labels, classes)
    return (log + 0.5 * torch.exp(-2 * log) * (wanted - mean) ** 2).mean()


def _descend(
    net: nn.Module, data: tuple[Tensor, Tensor, Tensor], classes: int, steps: Steps, rng: np.random.Generator
) -> None:
    """Train the net in place."""
    order = torch.from_numpy(rng.permutation(len(data[1])))
    held_out = max(1, min(len(order) // 10, steps.held_out))
    judge = tuple(part[order[:held_out]] for part in data)
    optimizer = torch.optim.Adam(net.parameters(), lr=steps.learning_rate)
    best, best_weights, looks = np.inf, deepcopy(net.state_dict()), 0
    for step, rows in enumerate(islice(_batches(order[held_out:], steps.batch, rng), steps.steps), start=1):
        loss = _negative_log_likelihood(net, tuple(part[rows] for part in data), classes)  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % steps.every:
            continue
        with torch.no_grad():
            judged = float(_negative_log_likelihood(net, judge, classes))  # type: ignore[arg-type]
        looks += 1
        if judged < best:
            best, best_weights, looks = judged, deepcopy(net.state_dict()), 0
        if looks >= steps.patience:
            break
    net.load_state_dict(best_weights)


def _batches(rows: Tensor, batch: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """The rows in batches, each time all are through in a new order, without end."""
    while True:
        yield from rows[torch.from_numpy(rng.permutation(len(rows)))].split(batch)


def _channels_first(inputs_N: Inputs) -> Tensor:
    """float32[N, channels, H, W], uint8 as 0 … 1, or float32[N, F]."""
    scaled = inputs_N.astype(np.float32) / (255 if inputs_N.dtype == np.uint8 else 1)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(scaled, -1, 1)))
