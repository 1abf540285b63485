"""MART: misclassification-aware adversarial training (Wang et al. 2020, ICLR, openreview rklOg6EFwS)."""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from raymia.adversarial import (
    EXAMPLES,
    Attack,
    CraftedBatch,
    Epsilon,
    Norm,
    Steps,
    StepSize,
    craft_against_targets,
    crafted_logits,
    divergence,
    need_images,
)
from raymia.training.defense import Batch, Defense, Losses, Stage, soft_cross_entropy
from raymia.training.run import Run

_MARGIN_CEILING = 1.0001
"""The authors': the margin's logarithm stays finite where another class has all the probability."""


@dataclass(frozen=True)
class MART(Defense):
    """`mean BCE(p', y) + λ · mean KL(p ‖ p')·(1 - p_y)`, BCE: `-log p'_y - log(1.0001 - max_{k≠y} p'_k)`.

    p, p': what the model answers to x and x', both differentiated, as in the authors' code. x' climbs the cross
    entropy of the model in eval mode from x + 0.001·N(0, I). epsilon, step_size: in pixel units, norm: of the ball.
    strength: λ; their scripts take 5, their function's default is 6.
    """

    epsilon: Epsilon = 8 / 255
    steps: Steps = 10
    step_size: StepSize = 0.007
    norm: Norm = "linf"
    strength: Annotated[float, Field(ge=0)] = 5.0

    name: ClassVar[str] = "mart"
    stages: ClassVar[Mapping[str, Stage]] = dict.fromkeys(
        ("epsilon", "steps", "step_size", "norm", "strength"), Stage.TRAIN
    )
    sole: ClassVar[frozenset[str]] = frozenset({EXAMPLES, "objective"})

    def prepare(self, run: Run) -> None:
        need_images(run, self.name)

    def batch(self, run: Run, batch: Batch) -> Batch:
        attack = Attack(self.norm, self.epsilon, self.steps, self.step_size, "gaussian")
        return CraftedBatch.of(batch, craft_against_targets(run, batch, attack))

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        losses = inner()
        adversarial = crafted_logits(run, batch, self.name)
        clean_log, log_p = (torch.log_softmax(logits.float(), dim=1) for logits in (losses.logits, adversarial))
        cross_entropy = soft_cross_entropy(adversarial, batch.targets)
        doubt = 1 - clean_log.gather(1, batch.labels[:, None])[:, 0].exp()
        weighed = divergence(clean_log, log_p) * doubt
        losses.terms |= {"adversarial_ce": cross_entropy, "kl": weighed}
        losses.objective = (cross_entropy + _margin(log_p, batch.labels) + self.strength * weighed).mean()
        return losses


def _margin(log_p: Tensor, labels: Tensor) -> Tensor:
    """`-log(1.0001 - max_{k≠y} p_k)` per sample [B] of log-probabilities [B, K]."""
    others = log_p.scatter(1, labels[:, None], -torch.inf).amax(dim=1).exp()
    return -(_MARGIN_CEILING - others).log()
