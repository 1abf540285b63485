"""DeMem: take memorization back by a penalty on the spread of the losses (Luo & Li 2025, arXiv 2412.05767)."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from raymia.adversarial import Mode, crafts, spread
from raymia.errors import InputError
from raymia.training.defense import Batch, Context, Defense, Losses, Stage
from raymia.training.run import Run


@dataclass(frozen=True)
class DeMem(Defense):
    """Add `λ · Var(l)`: the unbiased variance, over the whole batch, of the records' adversarial cross entropies.

    To be written after a method of adversarial training; without one `l` is the cross entropy of the records as they
    are. A record below the mean by more than `1/(2λ)` nats has its loss raised. strength: λ; the authors take 0.2 to
    0.6 on PGD-AT, 0.2 to 0.4 on TRADES.

    mode: only `var` is DeMem, as the authors' code has it. `class_variance` is a baseline of theirs ("FAT" there), the
    variance of the mean losses of the classes, here of those in the batch. The rest are this project's own ablations:
    `std` is √Var; `var_low` and `var_high` take the losses below, above their mean (a constant) alone; `topk_mem` takes
    the records of the batch whose score is in its `top` fraction: the drop of their loss from epoch to epoch, averaged
    with weight `memory` on the past (from the third epoch on; one worker a model).
    """

    strength: Annotated[float, Field(ge=0)]
    mode: Mode = "var"
    top: Annotated[float, Field(gt=0, le=1)] = 0.25
    memory: Annotated[float, Field(ge=0, lt=1)] = 0.9

    name: ClassVar[str] = "demem"
    stages: ClassVar[Mapping[str, Stage]] = dict.fromkeys(("strength", "mode", "top", "memory"), Stage.TRAIN)

    def requires(self, context: Context) -> dict[str, Any]:
        if self.mode == "topk_mem" and context.workers > 1:
            raise InputError(
                f"{self.name}: mode topk_mem remembers each record's loss with one worker a model; set "
                "engine.workers_per_model to 1"
            )
        return {}

    def prepare(self, run: Run) -> None:
        parts = run.defense.parts
        for later in parts[parts.index(self) :]:
            if crafts(later):
                raise InputError(f"{self.name}: would not see what {later.name} crafts; write {self.name} after it")
        if self._remembers:
            unknown = torch.full((run.rows,), torch.nan)
            run.state[self.name] = {"epoch": -1, "last": unknown, "score": unknown.clone()}

    def batch(self, run: Run, batch: Batch) -> Batch:
        if self._remembers:
            held = run.state[self.name]
            if held["epoch"] != run.epoch:
                order = [torch.from_numpy(np.asarray(numbers)) for numbers in run.sampler(run.epoch)]
                held |= {"epoch": run.epoch, "step": 0, "order": order}
            held["numbers"] = held["order"][held["step"]]
            held["step"] += 1
        return batch

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        losses = inner()
        if self.strength == 0:
            return losses
        per_sample = losses.terms.get("adversarial_ce", losses.terms["ce"])
        if self._remembers:
            run.state[self.name]["now"] = per_sample.detach().float().cpu()
            per_sample = per_sample[self._memorized(run.state[self.name]).to(per_sample.device)]
        penalty = spread(per_sample, batch.labels, run.classes, self.mode, run.group)
        losses.penalties[self.name] = self.strength * penalty
        return losses

    def update(self, run: Run, batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
        loss = inner()
        if self._remembers:
            # Once a step: a method may ask for a step's losses more often.
            self._remember(run.state[self.name])
        return loss

    @property
    def _remembers(self) -> bool:
        return self.mode == "topk_mem" and self.strength > 0

    def _memorized(self, held: dict[str, Any]) -> Tensor:
        """int64: which of the batch's records to penalize."""
        score = held["score"][held["numbers"]]
        known = torch.nonzero(~score.isnan())[:, 0]
        order = torch.argsort(score[known], descending=True, stable=True)
        return known[order[: math.ceil(self.top * len(known))]]

    def _remember(self, held: dict[str, Any]) -> None:
        numbers, now = held["numbers"], held["now"]
        drop, score = held["last"][numbers] - now, held["score"][numbers]
        held["score"][numbers] = torch.where(score.isnan(), drop, self.memory * score + (1 - self.memory) * drop)
        held["last"][numbers] = now
