"""Adversarial regularization (Nasr, Shokri, Houmansadr 2018, CCS, arXiv 1807.05852): train against an attack that
trains along.
"""

import itertools
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from raymia.errors import InputError
from raymia.seeds import derive_seed
from raymia.training.defense import Batch, Context, Defense, Losses, Stage, TrainingSet
from raymia.training.rows import Rows, selected
from raymia.training.run import Run

RESERVE = "reserve"

AttackInputs = Literal["labels", "sorted"]


@dataclass(frozen=True)
class AdversarialRegularization(Defense):
    """Minimize `CE + λ (mean h - ½)` over the members, h an attack net's belief that a record is a member.

    Before each step h takes `attack_steps` steps up its gain `½ E_members log h + ½ E_reserve log(1 - h)`, on what the
    model in eval mode answers to the batch and to as many records of the reserve, augmented alike. A member is 1: the
    penalty lowers the belief. Of the paper's form `λ log h`, which has no bound against an h that lags behind, this is
    the bounded one of the public code (SPIN-UMass; RelaxLoss's and HAMP's too).

    strength: λ. inputs: h sees the posteriors and the `labels`, or the `sorted` posteriors alone. attack_rate:
    of h's Adam. The authors take 1e-5 from a start of N(0, 0.01), which is for tens of thousands of steps, and 26 steps
    of h to one of the model; RelaxLoss's code has 1e-3 and 5.
    """

    strength: Annotated[float, Field(gt=0)]
    inputs: AttackInputs = "labels"
    attack_steps: Annotated[int, Field(ge=1)] = 1
    attack_rate: Annotated[float, Field(gt=0)] = 1e-3

    name: ClassVar[str] = "adversarial_regularization"
    stages: ClassVar[Mapping[str, Stage]] = dict.fromkeys(
        ("strength", "inputs", "attack_steps", "attack_rate"), Stage.TRAIN
    )

    @property
    def needs_reserve(self) -> bool:
        return True

    def requires(self, context: Context) -> dict[str, Any]:
        context.reserve_for(self.name)
        if context.workers > 1:
            raise InputError(
                f"{self.name}: its attack net trains with one worker a model; set engine.workers_per_model to 1"
            )
        return {}

    def prepare(self, run: Run) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(run.seed, self.name))
            weights = AttackNet(run.classes, self.inputs).state_dict()
        run.state[self.name] = {"weights": weights, "optimizer": None}

    def update(self, run: Run, batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
        members = _answers(run, batch)
        for _ in range(self.attack_steps):
            others = _others(run, run.inputs[f"{self.name}/{RESERVE}"], len(batch.labels))
            self.attack_step(run, (members, batch.labels), (_answers(run, others), others.labels))
        return inner()

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        losses = inner()
        belief = self.belief(run, losses.logits.float(), batch.labels).sigmoid()
        losses.penalties[self.name] = self.strength * (belief.mean() - 0.5)
        return losses

    def attack_step(self, run: Run, members: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor]) -> Tensor:
        """One step of h on logits [B, K] and labels [B] of members and of others; returns its loss before the step."""
        state = run.state[self.name]
        weights = {name: value.to(run.device).requires_grad_() for name, value in state["weights"].items()}
        optimizer = torch.optim.Adam(weights.values(), lr=self.attack_rate)
        if state["optimizer"] is not None:
            optimizer.load_state_dict(state["optimizer"])
        believed, doubted = (self._belief(run, weights, *answers) for answers in (members, others))
        loss = 0.5 * functional.softplus(-believed).mean() + 0.5 * functional.softplus(doubted).mean()
        loss.backward()
        optimizer.step()
        held = {name: value.detach() for name, value in weights.items()}
        run.state[self.name] = {"weights": held, "optimizer": optimizer.state_dict()}
        return loss.detach()

    def belief(self, run: Run, logits: Tensor, labels: Tensor) -> Tensor:
        """h's belief [B] that records with these answers are members, as a logit; differentiable by the answers."""
        held = run.state[self.name]["weights"]
        return self._belief(run, {name: value.to(run.device) for name, value in held.items()}, logits, labels)

    def _belief(self, run: Run, weights: dict[str, Tensor], logits: Tensor, labels: Tensor) -> Tensor:
        belief: Tensor = functional_call(_skeleton(run.classes, self.inputs), weights, (logits, labels))
        return belief


class AttackNet(nn.Module):
    """Membership logits [B] of logits [B, K] and labels [B]: the paper's branches and widths."""

    def __init__(self, classes: int, inputs: AttackInputs) -> None:
        super().__init__()
        self.answers = _layers(classes, 1024, 512, 64)
        self.labels = _layers(classes, 128, 64) if inputs == "labels" else None
        self.joint = nn.Sequential(_layers(64 if self.labels is None else 128, 256, 128, 64), nn.Linear(64, 1))
        self.classes = classes

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        seen = logits.softmax(dim=1)
        if self.labels is None:
            features = self.answers(seen.sort(dim=1, descending=True).values)
        else:
            signs = 2.0 * functional.one_hot(labels, self.classes).to(seen.dtype) - 1.0
            features = torch.cat([self.answers(seen), self.labels(signs)], dim=1)
        beliefs: Tensor = self.joint(features)[:, 0]
        return beliefs


def _layers(*widths: int) -> nn.Sequential:
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(layer for pair in pairs for layer in (nn.Linear(*pair), nn.ReLU())))


@lru_cache
def _skeleton(classes: int, inputs: AttackInputs) -> AttackNet:
    """The net without weights: those are the run's own."""
    with torch.device("meta"):
        return AttackNet(classes, inputs)


def _answers(run: Run, batch: Batch) -> Tensor:
    """What the model as it is would answer, batch statistics neither used nor moved: float32[B, K]."""
    run.model.eval()
    with torch.no_grad(), run.autocast():
        logits: Tensor = run.model(batch.inputs)
    run.model.train()
    return logits.float()


def _others(run: Run, reserve: TrainingSet, count: int) -> Batch:
    """Records of the reserve, drawn and augmented as members are."""
    numbers = run.rng.choice(len(reserve), min(count, len(reserve)), replace=False)
    drawn = TrainingSet(selected(reserve.inputs, numbers), reserve.labels[numbers])
    [batch] = Rows(drawn, run.classes, run.device).batches([np.arange(len(drawn))], run.config.augmentation, run.rng)
    return batch
