"""DMP (Shejwalkar & Houmansadr 2021, AAAI, arXiv 1906.06589): a student that meets members through a teacher only."""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from scipy.special import entr, softmax

from raymia.diffusion.synthesis import Synthesis
from raymia.records.plan import Exposure
from raymia.training.defense import Batch, Context, Defense, Losses, Stage, TrainingSet, soft_cross_entropy
from raymia.training.rows import selected
from raymia.training.run import Run

TEACHER = "teacher"
RESERVE = "reserve"
IMAGES = "images"

_FEWEST = 2


@dataclass(frozen=True)
class DMP(Defense):
    """Distillation for membership privacy: train on records that are no members, labeled by a teacher of the members.

    source: where these records come from, the defender's `reserve` (its labels are not used), or `generated` by a
    diffusion model of the members, which then leaks too. keep: the share of them that the teacher is surest of (lowest
    entropy). temperature: T of teacher's and student's posteriors; the loss is `T² KL(p_teacher ‖ p_student)`, T² so
    that the study's learning rate suits every T. threshold, per_class: of generated images, see `Synthesis`.
    """

    source: Literal["reserve", "generated"] = "reserve"
    keep: Annotated[float, Field(gt=0, le=1)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 1.0
    threshold: Annotated[float, Field(ge=0, lt=1)] | None = None
    per_class: Annotated[int, Field(ge=1)] | None = None

    name: ClassVar[str] = "dmp"
    stages: ClassVar[Mapping[str, Stage]] = dict.fromkeys(
        ("source", "keep", "temperature", "threshold", "per_class"), Stage.DATA
    )
    sole: ClassVar[frozenset[str]] = frozenset({"training_set"})

    @model_validator(mode="after")
    def _of_generated_images(self) -> Self:
        if self.source == "reserve" and (self.threshold, self.per_class) != (None, None):
            raise ValueError(
                "threshold and per_class are of generated images; leave them out, or set source: generated"
            )
        return self

    @property
    def needs_reserve(self) -> bool:
        return self.source == "reserve"

    def requires(self, context: Context) -> dict[str, Any]:
        teacher = {TEACHER: context.model(TEACHER, context.positions, ())}
        if self.source == "reserve":
            context.reserve_for(self.name)
            return teacher
        # As diffusion_mixup's images, unless asked otherwise: then one set serves both.
        threshold = 0.85 if self.threshold is None else self.threshold
        return teacher | {IMAGES: context.synthetic(Synthesis(self.per_class, threshold))}

    def exposure(self, context: Context) -> NDArray[np.int8]:
        return np.full(len(context.positions), Exposure.INDIRECT, dtype=np.int8)

    def training_set(self, context: Context, inputs: Mapping[str, Any], rows: TrainingSet) -> TrainingSet:
        asked = inputs[RESERVE if self.source == "reserve" else IMAGES].inputs
        logits_NK = inputs[TEACHER].logits(asked).astype(np.float64)
        entropy_N = entr(softmax(logits_NK, axis=1)).sum(axis=1)
        surest = np.argsort(entropy_N, kind="stable")[: max(ceil(self.keep * len(asked)), _FEWEST)]
        kept = np.sort(surest)
        targets = softmax(logits_NK[kept] / self.temperature, axis=1).astype(np.float32)
        return TrainingSet(selected(asked, kept), logits_NK[kept].argmax(axis=1), targets)

    def row_count(self, context: Context, required: Mapping[str, Any], rows: int) -> int:
        generated = self.source == "generated"
        asked = required[IMAGES].per_class * context.classes if generated else len(context.reserve)
        return min(max(ceil(self.keep * asked), _FEWEST), asked)

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        losses = inner()
        if self.temperature != 1:
            crossed = soft_cross_entropy(losses.logits.float() / self.temperature, batch.targets)
            losses.terms["ce"] = self.temperature**2 * crossed
            losses.objective = losses.terms["ce"].mean()
        return losses
