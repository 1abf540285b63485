"""Confidence penalty (Pereyra et al. 2017, arXiv 1701.06548): reward uncertain answers while training."""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from raymia.training.defense import Batch, Defense, Losses, Stage, soft_cross_entropy
from raymia.training.run import Run


@dataclass(frozen=True)
class ConfidencePenalty(Defense):
    """Minimize `CE - β H(p)`, H the entropy of the model's answer in nats. beta: 0 is plain training."""

    beta: Annotated[float, Field(ge=0)]

    name: ClassVar[str] = "confidence_penalty"
    stages: ClassVar[Mapping[str, Stage]] = {"beta": Stage.TRAIN}
    per_sample: ClassVar[bool] = True

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        losses = inner()
        if self.beta:
            entropy = soft_cross_entropy(losses.logits, losses.logits.float().softmax(dim=1))
            losses.penalties[self.name] = -self.beta * entropy.mean()
        return losses
