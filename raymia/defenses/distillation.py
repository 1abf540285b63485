"""Knowledge distillation (Hinton, Vinyals, Dean 2015, arXiv 1503.02531): a baseline, the student sees the members."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from raymia.training.defense import Batch, Context, Defense, Losses, Stage, soft_cross_entropy
from raymia.training.run import Run

TEACHER = "teacher"


@dataclass(frozen=True)
class Distillation(Defense):
    """Minimize `(1-a) CE + a T² KL(p_teacher ‖ p_student)`, both posteriors at temperature T.

    The teacher is an undefended model of the same members; it sees each batch as the student does, augmented or mixed.
    weight: a; temperature: T. The KL is the mean over records of whole divergences, as in the paper; code that takes
    `kl_div`'s default mean has it divided by the number of classes as well, and its `a` means less.
    """

    weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    temperature: Annotated[float, Field(gt=0)] = 10.0

    name: ClassVar[str] = "distillation"
    stages: ClassVar[Mapping[str, Stage]] = {"weight": Stage.TRAIN, "temperature": Stage.TRAIN}
    sole: ClassVar[frozenset[str]] = frozenset({"objective"})

    def requires(self, context: Context) -> dict[str, Any]:
        return {TEACHER: context.model(TEACHER, context.positions, ())}

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        losses = inner()
        taught = (run.inputs[f"{self.name}/{TEACHER}"].answer(batch.inputs) / self.temperature).softmax(dim=1)
        crossed = soft_cross_entropy(losses.logits.float() / self.temperature, taught)
        divergence = crossed - taught.xlogy(taught).neg().sum(dim=1)
        pulled = self.weight * self.temperature**2 * divergence.mean()
        losses.objective = (1 - self.weight) * losses.objective + pulled
        return losses
