"""What a study will cost, before it is started: models to train, hours on this machine, disk."""

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from raymia.adversarial import PASSES, crafts, pgd_20, raise_loss
from raymia.recipes.ground import Ground
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Recipe, walk
from raymia.recipes.rehearsal import noise_like, untrained
from raymia.recipes.result import ResultRecipe
from raymia.recipes.robustness import RobustnessRecipe
from raymia.recipes.synthetic import SyntheticRecipe
from raymia.records.plan import Role
from raymia.report.time_left import duration
from raymia.store import Store
from raymia.study.standing import exists, present_names
from raymia.study.study import Study
from raymia.training.defense import Composed, Defense
from raymia.training.loop import Plan, State, train
from raymia.training.run import Alone

_TIMED_BATCHES = 3
_TIMED_IMAGES = 50
_PRICED = ("models", "generators", "synthetic", "robustness")
# Of the images drawn: what passes the filter is not known before.
_KEPT = 0.5


@dataclass(frozen=True)
class Price:
    """models, generators: in the study; reused: of all of these, already there. seconds_each, generator_seconds: of one
    worker on one, measured. drawing_seconds: of all images to draw, were half of them kept. evaluating_seconds: of all
    attacks on images, were all of them withstood. at_once: models.
    """

    models: int
    generators: int
    reused: int
    seconds_each: float
    generator_seconds: float
    drawing_seconds: float
    evaluating_seconds: float
    models_left: int
    generators_left: int
    at_once: int
    bytes: int

    @property
    def hours(self) -> float:
        """Wall hours for what is left to make, on this machine."""
        training = self.seconds_each * math.ceil(self.models_left / self.at_once)
        generating = self.generator_seconds * math.ceil(self.generators_left / self.at_once)
        return (training + generating + (self.drawing_seconds + self.evaluating_seconds) / self.at_once) / 3600

    def lines(self) -> list[str]:
        """For the terminal."""
        each = f"{_pace(self.seconds_each)} a model"
        counts = f"{self.models} models"
        if self.generators:
            counts += f" and {self.generators} generators"
            drawing = f"{_pace(self.drawing_seconds)} to draw images, were half of them kept"
            each += f", {_pace(self.generator_seconds)} a generator, {drawing}"
        if self.evaluating_seconds:
            each += f", {_pace(self.evaluating_seconds)} to attack images, were all of them withstood"
        left = self.models_left + self.generators_left
        return [
            f"{counts}: {left} to train, {self.reused} reused",
            f"about {duration(self.hours * 3600)} on this machine: {each} (timed on a few batches just now), "
            f"{self.at_once} at once",
            f"about {self.bytes / 1e6:,.0f} MB of disk",
        ]


def price(study: Study, store: Store) -> Price:
    """Price a study: its models are counted, one is timed for a few batches, nothing is written."""
    wanted = list(walk(_recipes(study)))
    present = present_names(store)
    of_kind = {kind: [one for one in wanted if one.kind == kind] for kind in _PRICED}
    left = {kind: [one for one in ones if not exists(one, present)] for kind, ones in of_kind.items()}
    ground = study.blueprint.ground
    weights = sum(p.numel() for p in untrained(ground).parameters()) * 4
    snapshots = sum(name not in present for recipe in of_kind["models"] for name in recipe.artifacts)
    members = len(study.blueprint.plan(0)[Role.TARGET_IN])
    config = ground.config
    batches = math.ceil(members / config.training.batch_size) * config.training.epochs
    engine = config.engine
    at_once = max(1, (os.cpu_count() or 1) // (engine.workers_per_model * engine.threads_per_worker))
    generator_seconds, drawing_seconds = _generating(left["generators"], left["synthetic"], ground)
    trained = len(of_kind["models"]) + len(of_kind["generators"])
    return Price(
        models=len(of_kind["models"]),
        generators=len(of_kind["generators"]),
        reused=trained - len(left["models"]) - len(left["generators"]),
        models_left=len(left["models"]),
        generators_left=len(left["generators"]),
        generator_seconds=generator_seconds,
        drawing_seconds=drawing_seconds,
        evaluating_seconds=_evaluating(left["robustness"], ground),
        seconds_each=_mean_batch_seconds(left["models"], ground) * batches / engine.workers_per_model,
        at_once=at_once,
        bytes=snapshots * weights,
    )


def _recipes(study: Study) -> list[ResultRecipe]:
    """The study's results; of a search that names its settings as it goes, those of as many drawn at random."""
    search = study.space.search
    if search.method != "optuna":
        return study.recipes
    at_random = replace(study.space, search=search.model_copy(update={"method": "random"}))
    return [study.result(setting) for setting in at_random.settings(study.config.seed)]


def _generating(generators: list[Recipe], sets: list[Recipe], ground: Ground) -> tuple[float, float]:
    """Seconds of one worker for one generator, and for all the images to draw."""
    if not generators and not sets:
        return 0.0, 0.0
    from raymia.diffusion.pace import pace_of

    config = ground.config.diffusion
    channels, height, width = ground.input_shape
    with _threads(ground.config.engine.threads_per_worker):
        pace = pace_of(config, (channels, height, width), ground.classes)
    drawing = 0.0
    for one in sets:
        assert isinstance(one, SyntheticRecipe)
        evaluations = one.steps * (2 if one.synthesis.guidance_weight(config) else 1)
        drawing += pace.evaluation * evaluations * one.per_class * ground.classes / _KEPT
    workers = ground.config.engine.workers_per_model
    return pace.step * config.iterations / workers, drawing


def _evaluating(evaluations: list[Recipe], ground: Ground) -> float:
    """Seconds of one worker for attacks that no image yields to."""
    if not evaluations:
        return 0.0
    images = torch.rand(_TIMED_IMAGES, *ground.input_shape)
    labels = torch.zeros(_TIMED_IMAGES, dtype=torch.int64)
    model, rng = untrained(ground).eval(), np.random.default_rng(0)
    step = pgd_20(ground.config.robustness)
    with _threads(ground.config.engine.threads_per_worker):
        raise_loss(model, images, labels, step, rng)
        started = time.perf_counter()
        raise_loss(model, images, labels, step, rng)
    pass_seconds = (time.perf_counter() - started) / step.steps / _TIMED_IMAGES
    each = [(PASSES[one.evaluation], len(one.positions)) for one in evaluations if isinstance(one, RobustnessRecipe)]
    return pass_seconds * sum(passes * images for passes, images in each)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pace(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.2g} s"


def _mean_batch_seconds(models: list[Recipe], ground: Ground) -> float:
    """Seconds of a training step, averaged over the models: each kind of step is timed."""
    kinds = Counter(slow_parts(model) for model in models) or Counter([()])
    timed = {kind: _batch_seconds(ground, Composed(kind)) for kind in kinds}
    return sum(timed[kind] * count for kind, count in kinds.items()) / kinds.total()


def slow_parts(model: Recipe) -> tuple[Defense, ...]:
    """The defenses that make a step many times as long: adversarial examples, each record's own gradient."""
    parts = model.defense.parts if isinstance(model, ModelRecipe) else ()
    return tuple(part for part in parts if crafts(part) or part.demands_per_sample)


def _batch_seconds(ground: Ground, defense: Composed) -> float:
    """Seconds of one training step on one worker of this machine, after a first epoch of warming up."""
    config = ground.config.training.model_copy(update={"epochs": 2, "schedule": "constant", "learning_rate": 1e-6})
    rows = noise_like(ground, config.batch_size * _TIMED_BATCHES)
    plan = Plan(rows, ground.classes, config, defense, 0, frozenset({2}))
    clock = _Clock()
    with _threads(ground.config.engine.threads_per_worker):
        train(lambda: untrained(ground), plan, clock, Alone(), torch.device("cpu"))
    return (clock.times[1] - clock.times[0]) / _TIMED_BATCHES


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
