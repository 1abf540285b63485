"""TRADES: trade accuracy against robustness by a weight (Zhang et al. 2019, arXiv 1901.08573)."""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from raymia.adversarial import (
    EXAMPLES,
    Attack,
    CraftedBatch,
    Epsilon,
    Norm,
    Steps,
    StepSize,
    craft_against_divergence,
    need_images,
    trades_losses,
)
from raymia.training.defense import Batch, Defense, Losses, Stage
from raymia.training.run import Run


@dataclass(frozen=True)
class TRADES(Defense):
    """`mean CE(f(x), y) + β · mean KL(p(x) ‖ p(x'))`; x' climbs the KL of the model in eval mode.

    It starts at x + 0.001·N(0, I). epsilon, step_size: in pixel units, norm: of the ball. beta: β; larger is more
    robust and less accurate. The authors' ε is 0.031.
    """

    epsilon: Epsilon = 8 / 255
    steps: Steps = 10
    step_size: StepSize = 0.007
    norm: Norm = "linf"
    beta: Annotated[float, Field(ge=0)] = 6.0

    name: ClassVar[str] = "trades"
    stages: ClassVar[Mapping[str, Stage]] = dict.fromkeys(
        ("epsilon", "steps", "step_size", "norm", "beta"), Stage.TRAIN
    )
    sole: ClassVar[frozenset[str]] = frozenset({EXAMPLES, "objective"})

    def prepare(self, run: Run) -> None:
        need_images(run, self.name)

    def batch(self, run: Run, batch: Batch) -> Batch:
        attack = Attack(self.norm, self.epsilon, self.steps, self.step_size, "gaussian")
        return CraftedBatch.of(batch, craft_against_divergence(run, batch, attack))

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        return trades_losses(run, batch, inner, self.beta, self.name)
