"""HAMP (Chen & Pattabiraman 2024, NDSS, arXiv 2307.01610): train to be unsure, answer with the confidence of noise."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from raymia.errors import InputError
from raymia.models import Classifier
from raymia.training.defense import Batch, Context, Defense, Losses, Stage, TrainingSet, soft_cross_entropy
from raymia.training.query import query_streams
from raymia.training.run import Run


@dataclass(frozen=True)
class HAMP(Defense):
    """Minimize `KL(soft label ‖ p) - α K H(p)`, and release each answer's ranking with the confidences of noise.

    gamma: the soft labels' entropy is at least this share of `ln K`, and about it. alpha: weight of the entropy H(p) as
    the authors' code has it, where `kl_div`'s default mean divides the divergence by the number of classes K too: the
    loss here is theirs times K, so that the study's learning rate suits it (their 0.5 for 10 classes is 0.05). The
    divergence is computed as the cross entropy, less by the soft labels' own entropy, which no weight changes.

    replace: whether the sorted confidences of an answer are replaced by those on a random image (uniform pixels; for
    features, normal with the members' mean and deviation). The noise is drawn from the query itself, so that asking
    again tells nothing new; the predicted label and the order of classes stay.
    """

    gamma: Annotated[float, Field(ge=0, lt=1)]
    alpha: Annotated[float, Field(ge=0)] = 0.001
    replace: bool = True

    name: ClassVar[str] = "hamp"
    stages: ClassVar[Mapping[str, Stage]] = {
        "gamma": Stage.TRAIN,
        "alpha": Stage.TRAIN,
        "replace": Stage.RELEASE,
    }
    per_sample: ClassVar[bool] = True
    sole: ClassVar[frozenset[str]] = frozenset({"release"})

    def requires(self, context: Context) -> dict[str, Any]:
        soft_label(context.classes, self.gamma)
        return {}

    def training_set(self, context: Context, inputs: Mapping[str, Any], rows: TrainingSet) -> TrainingSet:
        top, rest = soft_label(context.classes, self.gamma)
        plain = np.eye(context.classes, dtype=np.float32)[rows.labels] if rows.targets is None else rows.targets
        return TrainingSet(rows.inputs, rows.labels, ((top - rest) * plain + rest).astype(np.float32))

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        losses = inner()
        if self.alpha:
            entropy = soft_cross_entropy(losses.logits, losses.logits.float().softmax(dim=1))
            losses.penalties[self.name] = -self.alpha * run.classes * entropy.mean()
        return losses

    def release(self, model: nn.Module, inputs: Tensor, fitted: Mapping[str, Tensor]) -> Tensor:
        """Log confidences [B, K] (the plain logits without `replace`)."""
        logits: Tensor = model(inputs)
        if not self.replace:
            return logits
        confidences = model(_noise_for(model, inputs)).float().log_softmax(dim=1).sort(dim=1, descending=True).values
        # The first must stay ahead, or a tie on noise could change the label.
        ahead = torch.nextafter(confidences[:, 1], torch.full_like(confidences[:, 1], torch.inf))
        confidences[:, 0] = torch.maximum(confidences[:, 0], ahead)
        ranking = logits.argsort(dim=1, descending=True, stable=True)
        return torch.empty_like(confidences).scatter_(1, ranking, confidences)


def soft_label(classes: int, gamma: float) -> tuple[float, float]:
    """The probability of the true class and of each other: lowered from 1 in steps of 0.01 until the entropy is at
    least `gamma ln K`. Raises InputError where that leaves the true class no likelier than the others.
    """
    for hundredths in range(100, 0, -1):
        top, rest = hundredths / 100, (1 - hundredths / 100) / (classes - 1)
        if top <= rest:
            break
        entropy = -top * math.log(top) - (1 - top) * (math.log(rest) if rest else 0.0)
        if entropy >= gamma * math.log(classes):
            return top, rest
    raise InputError(f"hamp.gamma: {gamma:g} leaves no soft label that still tells one of {classes} classes; lower it")


def _noise_for(model: nn.Module, inputs: Tensor) -> Tensor:
    """A random input [B, ...] for each query."""
    shape = inputs.shape[1:]
    streams = query_streams(inputs)
    if inputs.ndim == 4:
        drawn = torch.from_numpy(np.stack([stream.integers(0, 256, shape) for stream in streams]))
        return (drawn.to(inputs.device, inputs.dtype) / 255).contiguous(memory_format=torch.channels_last)
    assert isinstance(model, Classifier)
    normal = torch.from_numpy(np.stack([stream.standard_normal(shape) for stream in streams]))
    return normal.to(inputs.device, inputs.dtype) * model.std + model.mean
