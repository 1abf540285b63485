"""What a training of a study looks like from outside, to time it or to try whether it can begin: a model, and noise."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from raymia.config import TrainingConfig
from raymia.models import Classifier, build_model
from raymia.recipes.ground import Ground
from raymia.training.defense import Composed, TrainingSet
from raymia.training.loop import Plan, begin
from raymia.training.rows import Rows

_CPU = torch.device("cpu")
_FEW = 4


def untrained(ground: Ground) -> Classifier:
    """The study's model, as it is before training; torch's random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        return build_model(ground.config.model.name, ground.input_shape, ground.classes, ground.config.model.options)


def noise_like(ground: Ground, records: int) -> TrainingSet:
    """Random records of the study's kind, with random labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, ground.classes, records)
    if len(ground.input_shape) == 1:
        return TrainingSet(rng.standard_normal((records, *ground.input_shape)).astype(np.float32), labels)
    channels, height, width = ground.input_shape
    return TrainingSet(rng.integers(0, 256, (records, height, width, channels), dtype=np.uint8), labels)


def rehearse(ground: Ground, defense: Composed, members: int) -> None:
    """Begin a training under these defenses, none of which needs an artifact, and take the losses of a few records.

    members: of a real training, by whose number DP-SGD finds its noise. Raises InputError for what a defense refuses.
    """
    config = ground.config.training
    group = OneOf(ground.config.engine.workers_per_model)
    few = max(2 * group.world, _FEW)
    part_of = tuple(part for part in defense.parts if not part.demands_per_sample)
    with torch.random.fork_rng(devices=[]):
        begin(lambda: untrained(ground), _plan(ground, config, defense, members), group, _CPU)
        plan = _plan(ground, config.model_copy(update={"batch_size": few}), Composed(part_of), few)
        run = begin(lambda: untrained(ground), plan, group, _CPU)
        run.network.train()
        numbers = list(run.sampler(0))
        for batch in Rows(plan.rows, plan.classes, _CPU).batches(numbers, "none", run.rng):
            run.losses(run.defense.batch(run, batch))


def _plan(ground: Ground, config: TrainingConfig, defense: Composed, records: int) -> Plan:
    return Plan(noise_like(ground, records), ground.classes, config, defense, 0, frozenset({config.epochs}))


@dataclass
class OneOf:
    """As many workers as train a model, all but one of whom are imagined."""

    world: int
    rank: int = 0

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def mean(self, value: float) -> float:
        return value
