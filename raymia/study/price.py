"""What a study will cost, before it is started: models to train, hours on this machine, disk."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from raymia.adversarial import PASSES, crafts
from raymia.config import EngineConfig
from raymia.engine.cluster import Cluster
from raymia.recipes.custom import CustomModelRecipe
from raymia.recipes.ground import Ground
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Recipe, walk
from raymia.recipes.result import ResultRecipe
from raymia.recipes.robustness import RobustnessRecipe
from raymia.recipes.synthetic import SyntheticRecipe
from raymia.report.time_left import duration
from raymia.store import Store
from raymia.study.disk import KEPT, classifier_bytes, generator_bytes, image_bytes
from raymia.study.standing import exists, present_names
from raymia.study.study import Study
from raymia.study.timing import generator_seconds, gpus_here, seconds_a_pass, seconds_a_row, timing_device
from raymia.training.defense import Composed, Defense

_PRICED = ("models", "generators", "synthetic", "robustness")


@dataclass(frozen=True)
class Price:
    """models, generators: in the study; reused: of all of these, already there. seconds_each, generator_seconds: of all
    of a model's workers on one, from steps that were timed; a model's is the mean over those to train. drawing_seconds:
    of all images to draw, were half of them kept. evaluating_seconds: of all attacks on images, were all of them
    withstood. at_once: models. bytes: still to be written. timed_elsewhere: on a CPU, for want of the GPUs that it will
    train on.
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
    timed_elsewhere: bool

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
        where = "this machine"
        if self.timed_elsewhere:
            where = "a CPU (it will train on GPUs, and this machine has none to be timed)"
        return [
            f"{counts}: {left} to train, {self.reused} reused",
            f"about {duration(self.hours * 3600)} on {where}: {each} (timed on a few batches just now), "
            f"{self.at_once} at once",
            f"about {self.bytes / 1e6:,.0f} MB of disk",
        ]


@dataclass(frozen=True)
class Training:
    """What a model's training goes through. rows: of its training set. epochs: up to the last one whose model is still
    to be kept. slow: the defenses that make its steps long.
    """

    rows: int
    epochs: int
    slow: tuple[Defense, ...] = ()

    def rows_seen(self, batch_size: int) -> int:
        """Rows in all its steps; the last step of an epoch counts as a whole one."""
        batch = min(batch_size, self.rows)
        return math.ceil(self.rows / batch) * batch * self.epochs


def price(study: Study, store: Store) -> Price:
    """Price a study: its models are counted, a few batches of each kind of them are timed, nothing is written."""
    wanted = list(walk(_recipes(study)))
    present = present_names(store)
    of_kind = {kind: [one for one in wanted if one.kind == kind] for kind in _PRICED}
    left = {kind: [one for one in ones if not exists(one, present)] for kind, ones in of_kind.items()}
    ground = study.blueprint.ground
    device, engine = timing_device(ground), ground.config.engine
    sets = _largest(one for one in left["synthetic"] if isinstance(one, SyntheticRecipe))
    kept = sum(name not in present for recipe in of_kind["models"] for name in recipe.artifacts)
    step_seconds, drawing_seconds = _generating(left["generators"], sets, ground, device)
    trainings = [training_of(one, present) for one in left["models"] or of_kind["models"]]
    trained = len(of_kind["models"]) + len(of_kind["generators"])
    return Price(
        models=len(of_kind["models"]),
        generators=len(of_kind["generators"]),
        reused=trained - len(left["models"]) - len(left["generators"]),
        models_left=len(left["models"]),
        generators_left=len(left["generators"]),
        generator_seconds=step_seconds * ground.config.diffusion.iterations / engine.workers_per_model,
        drawing_seconds=drawing_seconds,
        evaluating_seconds=_evaluating(left["robustness"], ground, device),
        seconds_each=_mean_seconds(trainings, ground, device) / engine.workers_per_model,
        at_once=_at_once(engine),
        bytes=kept * classifier_bytes(ground) + generator_bytes(left["generators"], ground) + image_bytes(sets, ground),
        timed_elsewhere=device.type != ground.device,
    )


def _recipes(study: Study) -> list[ResultRecipe]:
    """The study's results; of a search that names its settings as it goes, those of as many drawn at random."""
    search = study.space.search
    if search.method != "optuna":
        return study.recipes
    at_random = replace(study.space, search=search.model_copy(update={"method": "random"}))
    return [study.result(setting) for setting in at_random.settings(study.config.seed)]


def training_of(model: Recipe, present: frozenset[str]) -> Training:
    """What it takes to train a model. A user's own training, which nobody can look into, is taken for a plain one.

    present: names of the artifacts that are there.
    """
    if isinstance(model, ModelRecipe):
        missing = [epoch for epoch in model.snapshots if model.artifact(epoch) not in present]
        return Training(model.row_count, max(missing or model.snapshots), slow_parts(model))
    assert isinstance(model, CustomModelRecipe)
    return Training(len(model.positions), model.ground.config.training.epochs)


def slow_parts(model: Recipe) -> tuple[Defense, ...]:
    """The defenses that make a step many times as long: adversarial examples, each record's own gradient."""
    parts = model.defense.parts if isinstance(model, ModelRecipe) else ()
    return tuple(part for part in parts if crafts(part) or part.demands_per_sample)


def _mean_seconds(trainings: Sequence[Training], ground: Ground, device: torch.device) -> float:
    """Of one worker for a training, averaged over them: a row of each kind of step is timed."""
    batch_size, total = ground.config.training.batch_size, 0.0
    for slow in dict.fromkeys(one.slow for one in trainings):
        alike = [one for one in trainings if one.slow == slow]
        # One batch for all of a kind: none of them has a smaller one, but by its last rows.
        batch = min(batch_size, *(one.rows for one in alike))
        seen = sum(one.rows_seen(batch_size) for one in alike)
        total += seconds_a_row(ground, Composed(slow), batch, device) * seen
    return total / len(trainings)


def _largest(sets: Iterable[SyntheticRecipe]) -> list[SyntheticRecipe]:
    """Of the sets that are taken from the same shards the largest: its images are the others' too."""
    by_folder = {one.folder: one for one in sorted(sets, key=lambda one: one.per_class)}
    return list(by_folder.values())


def _generating(
    generators: Sequence[Recipe], sets: Sequence[SyntheticRecipe], ground: Ground, device: torch.device
) -> tuple[float, float]:
    """Seconds of one worker for one iteration of a generator, and for all the images to draw."""
    if not generators and not sets:
        return 0.0, 0.0
    step, evaluation = generator_seconds(ground, device)
    drawing = 0.0
    for one in sets:
        evaluations = one.steps * (2 if one.synthesis.guidance_weight(ground.config.diffusion) else 1)
        drawing += evaluation * evaluations * one.per_class * ground.classes / KEPT
    return step, drawing


def _evaluating(evaluations: Sequence[Recipe], ground: Ground, device: torch.device) -> float:
    """Seconds of one worker for attacks that no image yields to."""
    if not evaluations:
        return 0.0
    each = [(PASSES[one.evaluation], len(one.positions)) for one in evaluations if isinstance(one, RobustnessRecipe)]
    return seconds_a_pass(ground, device) * sum(passes * images for passes, images in each)


def _at_once(engine: EngineConfig) -> int:
    """Models that find room on this machine at a time."""
    here = Cluster(("this machine",), ((os.cpu_count() or 1, gpus_here()),), joined=False)
    return max(1, here.room(engine) // engine.workers_per_model)


def _pace(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.2g} s"
