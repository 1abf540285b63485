"""Early stopping: release the model before it has learned its members by heart."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from raymia.training.defense import Defense, Stage


@dataclass(frozen=True)
class EarlyStopping(Defense):
    """Release the model after this fraction of the epochs.

    fraction: of the planned epochs, in (0, 1]; paper 1's stops 25, 50, 75, 100, 125 of 200 are 0.125 … 0.625. The
    learning-rate schedule does not depend on it, so one training serves every stop and the undefended model.
    """

    fraction: Annotated[float, Field(gt=0, le=1)]

    name: ClassVar[str] = "early_stopping"
    stages: ClassVar[Mapping[str, Stage]] = {"fraction": Stage.SELECT}
    per_sample: ClassVar[bool] = True

    def select(self, epochs: int) -> int:
        return max(1, round(self.fraction * epochs))
