"""Label smoothing (Szegedy et al. 2016): train toward targets that are less than certain."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from raymia.training.defense import Context, Defense, Stage, TrainingSet


@dataclass(frozen=True)
class LabelSmoothing(Defense):
    """Targets `1-ε` on the true class. The form says what the other classes get, K classes in all.

    form `paper` (paper 1): `ε/(K-1)` each. form `torch`: `ε/K` each and `1-ε+ε/K` on the true class; the two agree for
    `ε_torch = ε_paper K/(K-1)`. A smoothed model's posteriors crowd around the smooth target, so per-example attacks
    can gain from it (Kaya & Dumitras 2021).
    """

    epsilon: Annotated[float, Field(ge=0, lt=1)]
    form: Literal["paper", "torch"] = "paper"

    name: ClassVar[str] = "label_smoothing"
    stages: ClassVar[Mapping[str, Stage]] = {"epsilon": Stage.TRAIN, "form": Stage.TRAIN}
    per_sample: ClassVar[bool] = True

    def training_set(self, context: Context, inputs: Mapping[str, Any], rows: TrainingSet) -> TrainingSet:
        classes = context.classes
        plain = np.eye(classes, dtype=np.float32)[rows.labels] if rows.targets is None else rows.targets
        spread = self.epsilon / classes if self.form == "torch" else self.epsilon / (classes - 1)
        kept = 1 - spread * classes
        targets = (kept * plain + spread).astype(np.float32)
        return TrainingSet(rows.inputs, rows.labels, targets)
