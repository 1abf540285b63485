"""TRADES at perturbed weights (Wu, Xia, Wang 2020, arXiv 2004.05884)."""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

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
    craft_against_divergence,
    need_images,
    need_weights,
    perturbed_step,
    trades_losses,
)
from raymia.training.defense import Batch, Defense, Losses, Stage
from raymia.training.run import Run


@dataclass(frozen=True)
class TRADESAWP(Defense):
    """`trades` and `awp` by one name, with the authors' γ for the two together: the same step bit for bit.

    The weights are perturbed up `CE + β·KL` of the examples crafted at `w`. Hyperparameters: those of the two.
    """

    epsilon: Epsilon = 8 / 255
    steps: Steps = 10
    step_size: StepSize = 0.007
    norm: Norm = "linf"
    beta: Annotated[float, Field(ge=0)] = 6.0
    gamma: Annotated[float, Field(gt=0)] = 0.005

    name: ClassVar[str] = "trades_awp"
    stages: ClassVar[Mapping[str, Stage]] = dict.fromkeys(
        ("epsilon", "steps", "step_size", "norm", "beta", "gamma"), Stage.TRAIN
    )
    sole: ClassVar[frozenset[str]] = frozenset({EXAMPLES, "objective", "update"})

    def prepare(self, run: Run) -> None:
        need_images(run, self.name)
        need_weights(run, self.name)

    def batch(self, run: Run, batch: Batch) -> Batch:
        attack = Attack(self.norm, self.epsilon, self.steps, self.step_size, "gaussian")
        return CraftedBatch.of(batch, craft_against_divergence(run, batch, attack))

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        return trades_losses(run, batch, inner, self.beta, self.name)

    def update(self, run: Run, batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
        return perturbed_step(run, batch, inner, self.gamma)
