"""mixup: train on convex combinations of pairs (Zhang et al. 2018, arXiv 1710.09412)."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from raymia.training.defense import Batch, Defense, Stage
from raymia.training.run import Run


@dataclass(frozen=True)
class Mixup(Defense):
    """`x = λ x_i + (1-λ) x_j`, the targets alike, one λ ~ Beta(alpha, alpha) a batch, j a permutation of the batch.

    alpha: above 0; near 0 hardly mixes, 1 draws λ uniformly. With several workers a model each mixes its own share.
    """

    alpha: Annotated[float, Field(gt=0)]

    name: ClassVar[str] = "mixup"
    stages: ClassVar[Mapping[str, Stage]] = {"alpha": Stage.TRAIN}

    def batch(self, run: Run, batch: Batch) -> Batch:
        weight = float(run.rng.beta(self.alpha, self.alpha))
        partner = torch.from_numpy(run.rng.permutation(len(batch.labels))).to(batch.labels.device)
        return mixed(batch, weight, partner)


def mixed(batch: Batch, weight: float, partner: torch.Tensor) -> Batch:
    """`weight` of each record and the rest of the one that `partner` (int64[B]) names for it; targets alike."""
    return Batch(
        inputs=weight * batch.inputs + (1 - weight) * batch.inputs[partner],
        labels=batch.labels,
        targets=weight * batch.targets + (1 - weight) * batch.targets[partner],
    )
