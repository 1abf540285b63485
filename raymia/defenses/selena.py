"""SELENA (Tang et al. 2022, USENIX Security, arXiv 2110.08324): learn of each record only what others say of it."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from scipy.special import softmax

from raymia.errors import InputError
from raymia.seeds import generator
from raymia.training.defense import Context, Defense, Stage, TrainingSet

_FEWEST = 2


@dataclass(frozen=True)
class Selena(Defense):
    """Split-AI and self-distillation: `sub_models` models first, then one on the members with their answers as targets.

    non_models: how many of the sub-models, drawn for each record, never train on it; their mean posterior is all that
    the released model is told of the record, whose own label it does not see. The authors' 10 of 25 leave each
    sub-model 60% of the members. Records that are exactly alike must not be there twice (`raymia.records` drops them).
    """

    sub_models: Annotated[int, Field(ge=2)] = 25
    non_models: Annotated[int, Field(ge=1)] = 10

    name: ClassVar[str] = "selena"
    stages: ClassVar[Mapping[str, Stage]] = {"sub_models": Stage.DATA, "non_models": Stage.DATA}
    sole: ClassVar[frozenset[str]] = frozenset({"training_set"})

    @model_validator(mode="after")
    def _somebody_trains(self) -> Self:
        if self.non_models >= self.sub_models:
            raise ValueError("non_models must be below sub_models: some sub-model has to train on each record")
        return self

    def requires(self, context: Context) -> dict[str, Any]:
        seen_MN = ~self._left_out(context)
        if seen_MN.sum(axis=1).min() < _FEWEST:
            raise InputError(
                f"selena.sub_models: {self.sub_models} with {self.non_models} non_models leave one of them fewer than "
                f"{_FEWEST} of {len(context.positions)} members to train on; give fewer non_models, or more members"
            )
        return {
            _sub_model(number): context.model(_sub_model(number), context.positions[seen_N], ())
            for number, seen_N in enumerate(seen_MN)
        }

    def training_set(self, context: Context, inputs: Mapping[str, Any], rows: TrainingSet) -> TrainingSet:
        assert isinstance(rows.inputs, np.ndarray)
        sums_NK = np.zeros((len(rows), context.classes))
        for number, out_N in enumerate(self._left_out(context)):
            if out_N.any():
                logits = inputs[_sub_model(number)].logits(rows.inputs[out_N])
                sums_NK[out_N] += softmax(logits.astype(np.float64), axis=1)
        return TrainingSet(rows.inputs, rows.labels, (sums_NK / self.non_models).astype(np.float32))

    def _left_out(self, context: Context) -> NDArray[np.bool_]:
        """bool[M, N]: which records each sub-model never trains on; `non_models` in every column."""
        draws_MN = generator(context.seed, "split").random((self.sub_models, len(context.positions)))
        left_out: NDArray[np.bool_] = draws_MN.argsort(axis=0).argsort(axis=0) < self.non_models
        return left_out


def _sub_model(number: int) -> str:
    return f"sub-{number}"
