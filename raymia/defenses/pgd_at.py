"""Adversarial training by PGD (Madry et al. 2018, arXiv 1706.06083; recipe of Rice et al. 2020, arXiv 2002.11569)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import ClassVar

from pydantic.dataclasses import dataclass

from raymia.adversarial import (
    EXAMPLES,
    Attack,
    Epsilon,
    Norm,
    Steps,
    StepSize,
    craft_against_targets,
    need_images,
)
from raymia.training.defense import Batch, Defense, Losses, Stage
from raymia.training.run import Run


@dataclass(frozen=True)
class PGDAT(Defense):
    """Train on adversarial examples in place of the records: `CE(f(x'), y)`.

    x' climbs the cross entropy of the model in eval mode from a uniform start. epsilon, step_size: in pixel units,
    norm: of the ball. Each example comes from its own record, so DP-SGD may compose with it (DP-AT).
    """

    epsilon: Epsilon = 8 / 255
    steps: Steps = 10
    step_size: StepSize = 2 / 255
    norm: Norm = "linf"

    name: ClassVar[str] = "pgd_at"
    stages: ClassVar[Mapping[str, Stage]] = dict.fromkeys(("epsilon", "steps", "step_size", "norm"), Stage.TRAIN)
    per_sample: ClassVar[bool] = True
    sole: ClassVar[frozenset[str]] = frozenset({EXAMPLES})

    def prepare(self, run: Run) -> None:
        need_images(run, self.name)

    def batch(self, run: Run, batch: Batch) -> Batch:
        attack = Attack(self.norm, self.epsilon, self.steps, self.step_size)
        return replace(batch, inputs=craft_against_targets(run, batch, attack))

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        losses = inner()
        losses.terms["adversarial_ce"] = losses.terms["ce"]
        return losses
