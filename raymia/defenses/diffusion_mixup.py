"""Train on generated images mixed with few real ones (paper 1: "Defense method for membership inference attacks based
on diffusion model and mixed samples", Journal of Guangzhou University 2024, 23(5): 76-84).

A diffusion model learns the members; its images, labeled and filtered by a classifier, stand in for all but a small
subset of them, and mixup hides that subset. The members outside of it meet the model only through the generator and the
classifier: their exposure is indirect.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from raymia.defenses.mixup import mixed
from raymia.diffusion.synthesis import LabelMode, Synthesis
from raymia.errors import InputError
from raymia.records.plan import Exposure
from raymia.seeds import generator
from raymia.training.defense import Batch, Context, Defense, Stage, TrainingSet
from raymia.training.rows import Concatenated
from raymia.training.run import Run, Sampler

IMAGES = "images"


@dataclass(frozen=True)
class DiffusionMixup(Defense):
    """Train on `per_class` generated images of each class and a random `subset` of the members, mixed.

    subset: fraction of the members, the same first ones of one permutation for every fraction. alpha: of mixup's
    Beta(alpha, alpha), 0 for none. threshold, labels, calibrate: see `Synthesis`; threshold 0 with labels=condition is
    no filter. per_class, guidance: None for the study's (`diffusion.per_class`, `diffusion.guidance`). pairing: `union`
    mixes any two records of a batch; `cross` draws batches half of generated, half of real images and mixes each pair
    both ways, as many steps an epoch as without. source: `members` is the ablation without a generator: the members
    themselves, repeated to as many rows, so that mixup is compared at equal steps.
    """

    subset: Annotated[float, Field(ge=0, le=1)]
    alpha: Annotated[float, Field(ge=0)] = 1.0
    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.85
    guidance: Annotated[float, Field(ge=0)] | None = None
    per_class: Annotated[int, Field(ge=1)] | None = None
    labels: LabelMode = "auto"
    calibrate: bool = False
    pairing: Literal["union", "cross"] = "union"
    source: Literal["generated", "members"] = "generated"

    name: ClassVar[str] = "diffusion_mixup"
    version: ClassVar[int] = 3
    stages: ClassVar[Mapping[str, Stage]] = {
        "subset": Stage.DATA,
        "alpha": Stage.TRAIN,
        "threshold": Stage.DATA,
        "guidance": Stage.DATA,
        "per_class": Stage.DATA,
        "labels": Stage.DATA,
        "calibrate": Stage.DATA,
        "pairing": Stage.TRAIN,
        "source": Stage.DATA,
    }
    sole: ClassVar[frozenset[str]] = frozenset({"training_set"})

    @model_validator(mode="after")
    def _cross_needs_both(self) -> Self:
        if self.pairing == "cross" and (self.subset == 0 or self.source == "members"):
            raise ValueError("pairing: cross mixes generated with real images; give a subset above 0, source generated")
        if self.source == "members" and self.per_class is None:
            raise ValueError("source: members are repeated to as many rows as per_class images make; give per_class")
        return self

    def requires(self, context: Context) -> dict[str, Any]:
        if self.source == "members":
            return {}
        synthesis = Synthesis(self.per_class, self.threshold, self.labels, self.guidance, self.calibrate)
        return {IMAGES: context.synthetic(synthesis)}

    def exposure(self, context: Context) -> NDArray[np.int8]:
        if self.source == "members":
            return super().exposure(context)
        exposure = np.full(len(context.positions), Exposure.INDIRECT, dtype=np.int8)
        exposure[self._chosen(context)] = Exposure.DIRECT
        return exposure

    def training_set(self, context: Context, inputs: Mapping[str, Any], rows: TrainingSet) -> TrainingSet:
        """The generated images, then the subset of the members."""
        assert isinstance(rows.inputs, np.ndarray)
        chosen = self._chosen(context)
        if self.source == "members":
            assert self.per_class is not None
            # Every member at least once: all of them are said to be trained on.
            count = max(self.per_class * context.classes + len(chosen), len(rows))
            numbers = np.resize(generator(context.seed, "repeated").permutation(len(rows)), count)
            return TrainingSet(rows.inputs[numbers], rows.labels[numbers])
        images = inputs[IMAGES]
        if not len(chosen):
            return TrainingSet(images.inputs, images.labels)
        real = TrainingSet(rows.inputs[chosen], rows.labels[chosen])
        return TrainingSet(Concatenated((images.inputs, real.inputs)), np.concatenate([images.labels, real.labels]))

    def row_count(self, context: Context, required: Mapping[str, Any], rows: int) -> int:
        chosen = len(self._chosen(context))
        if self.source == "members":
            assert self.per_class is not None
            return max(self.per_class * context.classes + chosen, rows)
        images: int = required[IMAGES].per_class
        return images * context.classes + chosen

    def prepare(self, run: Run) -> None:
        if self.pairing == "cross":
            generated = len(run.inputs[f"{self.name}/{IMAGES}"].labels)
            run.sampler = _pairs(generated, run)

    def batch(self, run: Run, batch: Batch) -> Batch:
        if not self.alpha:
            return batch
        weight = float(run.rng.beta(self.alpha, self.alpha))
        count = len(batch.labels)
        # Crossed rows come as generated, real, generated, real …; an odd last one is mixed with itself.
        crossed = np.minimum(np.arange(count) ^ 1, count - 1)
        partner = crossed if self.pairing == "cross" else run.rng.permutation(count)
        return mixed(batch, weight, torch.from_numpy(partner).to(batch.labels.device))

    def _chosen(self, context: Context) -> NDArray[np.int64]:
        """Which of the members are trained on: int64[m], sorted numbers into `context.positions`."""
        count = round(self.subset * len(context.positions))
        if self.subset and not count:
            raise InputError(
                f"diffusion_mixup.subset: {self.subset:g} of {len(context.positions)} members is none; give 0, or at "
                f"least {1 / len(context.positions):.2g}"
            )
        order = generator(context.seed, "subset").permutation(len(context.positions))
        return np.sort(order[:count])


@dataclass(frozen=True)
class GeneratedOnly(Defense):
    """Train on the first `taken` generated images of each class alone, unmixed: how well they teach (classification
    accuracy score, Ravuri & Vinyals 2019, arXiv 1905.10887). A probe of a synthetic set, offered in no space.

    per_class … calibrate: as in `Synthesis`, of the set that the images are taken from.
    """

    per_class: int | None
    threshold: float
    labels: LabelMode
    guidance: float | None
    calibrate: bool
    taken: int

    name: ClassVar[str] = "generated_only"
    stages: ClassVar[Mapping[str, Stage]] = dict.fromkeys(
        ("per_class", "threshold", "labels", "guidance", "calibrate", "taken"), Stage.DATA
    )

    @classmethod
    def of(cls, synthesis: Synthesis, taken: int) -> Self:
        """The probe of a set."""
        return cls(**asdict(synthesis), taken=taken)

    def requires(self, context: Context) -> dict[str, Any]:
        synthesis = Synthesis(self.per_class, self.threshold, self.labels, self.guidance, self.calibrate)
        return {IMAGES: context.synthetic(synthesis)}

    def exposure(self, context: Context) -> NDArray[np.int8]:
        return np.full(len(context.positions), Exposure.INDIRECT, dtype=np.int8)

    def training_set(self, context: Context, inputs: Mapping[str, Any], rows: TrainingSet) -> TrainingSet:
        images = inputs[IMAGES]
        first = [np.flatnonzero(images.labels == label)[: self.taken] for label in range(context.classes)]
        numbers = np.sort(np.concatenate(first))
        return TrainingSet(images.inputs.take(numbers), images.labels[numbers])

    def row_count(self, context: Context, required: Mapping[str, Any], rows: int) -> int:
        return min(self.taken, required[IMAGES].per_class) * context.classes


def _pairs(generated: int, run: Run) -> Sampler:
    """Batches of pairs, a generated row and a real one: in an epoch half as many pairs as there are rows.

    Each kind is gone through in a new order after the other, from epoch to epoch. Every worker's share of a batch is
    whole pairs: a batch holds as many as they can divide evenly.
    """
    real, world = run.rows - generated, run.group.world
    half = max(run.config.batch_size // (2 * world), 1) * world
    count = run.rows // 2

    def batches(epoch: int) -> Iterator[NDArray[np.int64]]:
        places = np.arange(epoch * count, (epoch + 1) * count)
        first = _in_turn(generated, places, run.seed, "order")
        second = generated + _in_turn(real, places, run.seed, "partners")
        pairs = np.stack([first, second], axis=1)
        for start in range(0, len(pairs) - len(pairs) % world, half):
            chosen = pairs[start : start + half]
            yield chosen[: len(chosen) - len(chosen) % world].reshape(-1)

    return batches


def _in_turn(rows: int, places: NDArray[np.int64], seed: int, name: str) -> NDArray[np.int64]:
    """What stands at these consecutive places of an endless row of permutations: int64, numbers below `rows`."""
    first, last = int(places[0]) // rows, int(places[-1]) // rows
    orders = np.concatenate([generator(seed, name, turn).permutation(rows) for turn in range(first, last + 1)])
    return orders[places - first * rows]
