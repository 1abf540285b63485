"""What a study will cost, before it is started: models to train, hours on this machine, disk."""

import math
import os
import time
from dataclasses import dataclass

import numpy as np
import torch

from raymia.models import Classifier, build_model
from raymia.recipes.blueprint import models
from raymia.recipes.ground import Ground
from raymia.records.plan import Role
from raymia.report.time_left import duration
from raymia.store import Store
from raymia.study.standing import exists, present_names
from raymia.study.study import Study
from raymia.training.defense import Composed, TrainingSet
from raymia.training.loop import Plan, State, train
from raymia.training.run import Alone

_TIMED_BATCHES = 3


@dataclass(frozen=True)
class Price:
    """models: in the study; reused: of them, already there. seconds_each: of one worker, measured. at_once: models."""

    models: int
    reused: int
    seconds_each: float
    at_once: int
    bytes: int

    @property
    def hours(self) -> float:
        """Wall hours for what is left to train, on this machine."""
        return self.seconds_each * math.ceil((self.models - self.reused) / self.at_once) / 3600

    def lines(self) -> list[str]:
        """For the terminal."""
        left = self.models - self.reused
        return [
            f"{self.models} models: {left} to train, {self.reused} reused",
            f"about {duration(self.hours * 3600)} on this machine: {_pace(self.seconds_each)} a model "
            f"(timed on {_TIMED_BATCHES} batches just now), {self.at_once} at once",
            f"about {self.bytes / 1e6:,.0f} MB of disk",
        ]


def price(study: Study, store: Store) -> Price:
    """Price a study: its models are counted, one is timed for a few batches, nothing is written."""
    wanted = models(study.recipes)
    if study.space.search.method == "optuna":
        # Settings are not known yet: each is taken to need as many models as the undefended one.
        wanted = wanted * (study.space.search.samples + 1)
    present = present_names(store)
    reused = sum(exists(recipe, present) for recipe in wanted)
    ground = study.blueprint.ground
    weights = sum(p.numel() for p in _untrained(ground).parameters()) * 4
    snapshots = sum(name not in present for recipe in wanted for name in recipe.artifacts)
    members = len(study.blueprint.plan(0)[Role.TARGET_IN])
    config = ground.config
    batches = math.ceil(members / config.training.batch_size) * config.training.epochs
    engine = config.engine
    at_once = max(1, (os.cpu_count() or 1) // (engine.workers_per_model * engine.threads_per_worker))
    return Price(
        models=len(wanted),
        reused=reused,
        seconds_each=_batch_seconds(ground) * batches / engine.workers_per_model,
        at_once=at_once,
        bytes=snapshots * weights,
    )


def _pace(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.2g} s"


def _untrained(ground: Ground) -> Classifier:
    with torch.random.fork_rng():
        return build_model(ground.config.model.name, ground.input_shape, ground.classes, ground.config.model.options)


def _batch_seconds(ground: Ground) -> float:
    """Seconds of one training step on one worker of this machine, after a first epoch of warming up."""
    config = ground.config.training.model_copy(update={"epochs": 2, "schedule": "constant", "learning_rate": 1e-6})
    plan = Plan(_noise(ground), ground.classes, config, Composed(()), 0, frozenset({2}))
    threads = torch.get_num_threads()
    torch.set_num_threads(ground.config.engine.threads_per_worker)
    clock = _Clock()
    try:
        train(lambda: _untrained(ground), plan, clock, Alone(), torch.device("cpu"))
    finally:
        torch.set_num_threads(threads)
    return (clock.times[1] - clock.times[0]) / _TIMED_BATCHES


def _noise(ground: Ground) -> TrainingSet:
    rng = np.random.default_rng(0)
    count = ground.config.training.batch_size * _TIMED_BATCHES
    labels = rng.integers(0, ground.classes, count)
    if len(ground.input_shape) == 1:
        return TrainingSet(rng.standard_normal((count, *ground.input_shape)).astype(np.float32), labels)
    channels, height, width = ground.input_shape
    return TrainingSet(rng.integers(0, 256, (count, height, width, channels)).astype(np.uint8), labels)


class _Clock:
    """A keeper that keeps nothing but the time each epoch ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def load(self) -> State | None:
        return None

    def save(self, state: State) -> None:
        """Nothing is kept."""

    def snapshot(self, epoch: int, weights: State, history: list[float]) -> None:
        """Nothing is kept."""

    def report(self, epoch: int) -> None:
        self.times.append(time.perf_counter())
