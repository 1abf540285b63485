"""RelaxLoss: keep the training loss near a target instead of at zero (Chen et al. 2022, arXiv 2207.05801)."""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from raymia.training.defense import Batch, Defense, Losses, Stage, soft_cross_entropy
from raymia.training.run import Run


@dataclass(frozen=True)
class RelaxLoss(Defense):
    """Even epochs (from 0) minimize `|L - α|`; odd ones `L` while `L > α`, else flatten the posteriors.

    L is the mean loss of the whole batch, whichever worker holds its records.

    alpha: the target mean loss in nats; 0 is plain training. Flattening pulls toward `t`: the present probability of
    the true class (at most `upper`), the rest spread evenly. The authors' two files differ and both are here by name:
    `cifar_code` minimizes `1[wrong]·CE(t) - CE(y)`, `paper` (their tabular file) `CE(t)`. detach_target: whether `t` is
    held constant; None takes each variant's own way (`cifar_code`: no, as in its source; `paper`: yes, as written).
    """

    alpha: Annotated[float, Field(ge=0)]
    variant: Literal["cifar_code", "paper"] = "cifar_code"
    upper: Annotated[float, Field(gt=0, le=1)] = 1.0
    detach_target: bool | None = None

    name: ClassVar[str] = "relaxloss"
    version: ClassVar[int] = 2
    stages: ClassVar[Mapping[str, Stage]] = dict.fromkeys(("alpha", "variant", "upper", "detach_target"), Stage.TRAIN)
    sole: ClassVar[frozenset[str]] = frozenset({"objective"})

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        losses = inner()
        if self.alpha == 0:
            return losses
        above = _group_mean(run, losses.objective, len(batch.labels)) - self.alpha
        if run.epoch % 2 == 0:
            losses.objective = above.sign() * (losses.objective - self.alpha)
        elif above <= 0:
            losses.objective = self._flatten(losses, batch.labels)
        return losses

    def _flatten(self, losses: Losses, labels: Tensor) -> Tensor:
        toward_target = soft_cross_entropy(losses.logits, self._flat_target(losses.logits, labels))
        if self.variant == "paper":
            return toward_target.mean()
        wrong = (losses.logits.argmax(dim=1) != labels).float()
        return (wrong * toward_target - losses.terms["ce"]).mean()

    def _flat_target(self, logits: Tensor, labels: Tensor) -> Tensor:
        probabilities = torch.softmax(logits.float(), dim=1)
        detach = self.variant == "paper" if self.detach_target is None else self.detach_target
        confidence = probabilities.gather(1, labels[:, None]).clamp(max=self.upper)
        confidence = confidence.detach() if detach else confidence
        others = (1 - confidence) / (probabilities.shape[1] - 1)
        own = torch.zeros_like(probabilities).scatter(1, labels[:, None], 1.0)
        return own * confidence + (1 - own) * others


def _group_mean(run: Run, loss: Tensor, records: int) -> Tensor:
    """The mean loss over all workers' records, a constant, from that of this worker's so many."""
    if run.group.world == 1:
        return loss.detach()
    return loss.new_tensor(run.group.mean(float(loss.detach()) * records) / run.group.mean(records))
