"""A small perceptron that tells members from non-members: one hidden layer, one logit."""

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

Floats = NDArray[np.float64]

_SMALLEST_SCALE = 1e-6  # a feature that is (almost) the same for all shadow records says nothing


@dataclass(frozen=True)
class Schedule:
    """How to train: Adam, binary cross entropy, constant learning rate.

    l2: the penalty is l2 times the sum of the squared weights (biases go free). max_steps: where `epochs` of `batch`
    records would take more steps, the batch grows until they don't (same epochs, same learning rate), so that the cost
    is bounded: 30,000 records of 10 features take a few seconds on one core.
    """

    epochs: int
    batch: int
    learning_rate: float
    l2: float = 0.0
    max_steps: int = 5000

    def batch_for(self, records: int) -> int:
        """The batch that trains so many records within max_steps."""
        return max(self.batch, ceil(records / max(self.max_steps // max(self.epochs, 1), 1)))


@dataclass(frozen=True)
class Perceptron:
    """A trained net. F features, H hidden units; weights float64, features standardized by mean_F and scale_F."""

    mean_F: Floats
    scale_F: Floats
    hidden_FH: Floats
    hidden_bias_H: Floats
    out_H: Floats
    out_bias: float

    def logits(self, features_NF: Floats) -> Floats:
        """float64[N], larger = more likely a member.

        Rounded to float32's digits: the sums of a matrix product depend, in the last digit, on where a row lies, and
        equal features must tie wherever they lie.
        """
        hidden_NH = ((features_NF - self.mean_F) / self.scale_F) @ self.hidden_FH + self.hidden_bias_H
        logits_N = np.maximum(hidden_NH, 0) @ self.out_H + self.out_bias
        return logits_N.astype(np.float32).astype(np.float64)


def train_perceptron(
    features_NF: Floats, member_N: NDArray[np.bool_], hidden: int, schedule: Schedule, rng: np.random.Generator
) -> Perceptron:
    """Train F -> hidden -> 1 (ReLU) on standardized features, members and non-members weighing the same in all.

    All randomness (weights, order of the records) comes from rng; torch's global generator is neither read nor moved.
    member_N must hold both members and non-members.
    """
    mean_F = features_NF.mean(axis=0)
    scale_F = np.maximum(features_NF.std(axis=0), _SMALLEST_SCALE)
    standard_NF = torch.from_numpy(((features_NF - mean_F) / scale_F).astype(np.float32))
    share = member_N.mean()
    weight_N = np.where(member_N, 0.5 / share, 0.5 / (1 - share))
    target_N = torch.from_numpy(member_N.astype(np.float32))

    weights = _initial_weights(features_NF.shape[1], hidden, rng)
    _descend(weights, standard_NF, target_N, torch.from_numpy(weight_N.astype(np.float32)), schedule, rng)
    hidden_FH, hidden_bias_H, out_H, out_bias = (weight.detach().numpy().astype(np.float64) for weight in weights)
    return Perceptron(mean_F, scale_F, hidden_FH, hidden_bias_H, out_H, float(out_bias))


def _initial_weights(features: int, hidden: int, rng: np.random.Generator) -> list[Tensor]:
    """Uniform within ±1/sqrt(inputs) of each layer, torch's default for linear layers."""

    def layer(inputs: int, *shape: int) -> Tensor:
        values = rng.uniform(-1, 1, shape) / sqrt(inputs)
        return torch.tensor(values, dtype=torch.float32, requires_grad=True)

    return [layer(features, features, hidden), layer(features, hidden), layer(hidden, hidden), layer(hidden)]


def _descend(
    weights: list[Tensor],
    features_NF: Tensor,
    target_N: Tensor,
    weight_N: Tensor,
    schedule: Schedule,
    rng: np.random.Generator,
) -> None:
    """Train the weights in place."""
    hidden_FH, hidden_bias_H, out_H, out_bias = weights
    decay = 2 * schedule.l2  # Adam adds decay · weight to the gradient: that of l2 · weight²
    optimizer = torch.optim.Adam(
        [
            {"params": [hidden_FH, out_H], "weight_decay": decay},
            {"params": [hidden_bias_H, out_bias], "weight_decay": 0.0},
        ],
        lr=schedule.learning_rate,
        fused=True,
    )
    batch = schedule.batch_for(len(target_N))
    for _ in range(schedule.epochs):
        order = torch.from_numpy(rng.permutation(len(target_N)))
        shuffled = (part[order].split(batch) for part in (features_NF, target_N, weight_N))
        for batch_BF, target_B, weight_B in zip(*shuffled, strict=True):
            hidden_BH = torch.addmm(hidden_bias_H, batch_BF, hidden_FH).relu()
            loss = binary_cross_entropy_with_logits(hidden_BH @ out_H + out_bias, target_B, weight_B)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
