"""Dropout before the last linear layer (Srivastava et al. 2014)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from raymia.models import last_linear
from raymia.training.defense import Defense, Stage
from raymia.training.run import Run


@dataclass(frozen=True)
class Dropout(Defense):
    """Zero each input of the last linear layer with probability `rate` while training; the released model is plain."""

    rate: Annotated[float, Field(ge=0, lt=1)]

    name: ClassVar[str] = "dropout"
    stages: ClassVar[Mapping[str, Stage]] = {"rate": Stage.TRAIN}
    per_sample: ClassVar[bool] = True

    def prepare(self, run: Run) -> None:
        # A hook leaves the weights' names alone, so the kept model loads without knowing of dropout.
        last_linear(run.model).register_forward_pre_hook(self._drop)

    def _drop(self, layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Tensor]:
        return (functional.dropout(arguments[0], self.rate, training=layer.training),)
