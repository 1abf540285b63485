"""Adversarial weight perturbation on top of adversarial training (Wu, Xia, Wang 2020, arXiv 2004.05884)."""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from raymia.adversarial import crafts, need_weights, perturbed_step
from raymia.errors import InputError
from raymia.training.defense import Batch, Defense, Stage
from raymia.training.run import Run


@dataclass(frozen=True)
class AWP(Defense):
    """Take each step of the method beside it (`pgd_at`, `trades`, `mart`) from `w + v`, uphill of the weights.

    gamma: `‖v‖/‖w‖` of each weight tensor; the authors take 0.01 on PGD-AT and 0.005 on TRADES. The examples are
    crafted at `w`. One more pass forward and backward a step.
    """

    gamma: Annotated[float, Field(gt=0)] = 0.01

    name: ClassVar[str] = "awp"
    stages: ClassVar[Mapping[str, Stage]] = {"gamma": Stage.TRAIN}
    sole: ClassVar[frozenset[str]] = frozenset({"update"})

    def prepare(self, run: Run) -> None:
        if not any(crafts(part) for part in run.defense.parts):
            raise InputError(f"{self.name}: perturbs adversarial training; write pgd_at, trades or mart beside it")
        need_weights(run, self.name)

    def update(self, run: Run, batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
        return perturbed_step(run, batch, inner, self.gamma)
