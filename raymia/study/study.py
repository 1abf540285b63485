"""A study put together: its resolved settings, its recipes, its name. Nothing has been trained yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from raymia.config import Evaluation, ModelConfig, StudyConfig
from raymia.engine.precision import resolve_precision
from raymia.errors import InputError
from raymia.keys import content_key
from raymia.metrics.leakage import lowest_resolved_fpr
from raymia.models import build_model, model_source_digest
from raymia.recipes.blueprint import Blueprint
from raymia.recipes.ground import Ground
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Recipe
from raymia.recipes.rehearsal import rehearse
from raymia.recipes.result import ResultRecipe
from raymia.records.plan import Role, poisson_membership
from raymia.records.plan_choice import decided
from raymia.space import Setting, Space
from raymia.study.facts import DataFacts
from raymia.training.defense import Composed, Defense, overrides


@dataclass(frozen=True)
class Study:
    """config: resolved. blueprint: makes each setting's recipes."""

    config: StudyConfig
    space: Space
    facts: DataFacts
    blueprint: Blueprint

    @cached_property
    def key(self) -> str:
        """The study's identity: everything its results depend on, and nothing else (no path, no name)."""
        content = {
            # Each result's key stands for its data, plan, models, attacks and the versions of the code.
            "results": [recipe.key for recipe in self.recipes],
            "search": self.space.search.model_dump(mode="json"),
            "branches": [_domains(branch.defenses) for branch in self.space.branches],
        }
        return content_key("study", content)

    @property
    def default_name(self) -> str:
        """A name for people that no other study has."""
        return f"{self.space.name}-{self.dataset}-{self.key[:8]}"

    @property
    def dataset(self) -> str:
        """The data set's name for people: a path's last part without its ending."""
        return self.config.data.dataset.rstrip("/").split("/")[-1].split(".")[0] or "data"

    def result(self, setting: Setting) -> ResultRecipe:
        """The recipe of a setting's measurements."""
        return self.blueprint.result(setting)

    @property
    def settings(self) -> list[Setting]:
        """The settings known before the search."""
        return self.space.settings(self.config.seed)

    @cached_property
    def recipes(self) -> list[ResultRecipe]:
        """The results of the settings known before the search."""
        return [self.result(setting) for setting in self.settings]


def assemble(config: StudyConfig, space: Space, facts: DataFacts) -> Study:
    """Resolve what the configuration leaves open, check that plan, model and settings fit the data.

    Raises InputError that names the setting and the remedy.
    """
    model = _resolved_model(config.model, facts)
    device = "cuda" if config.engine.gpus_per_worker else "cpu"
    training = config.training.model_copy(update={"precision": resolve_precision(config.training.precision, device)})
    diffusion = config.diffusion.model_copy(update={"precision": resolve_precision(config.diffusion.precision, device)})
    evaluations = tuple(
        name for name in get_args(Evaluation) if name in {*config.robustness.evaluations, *space.evaluations}
    )
    robustness = config.robustness.model_copy(update={"evaluations": evaluations})
    plan = decided(config.plan, space.needs_reserve)
    resolved = {"plan": plan, "model": model, "training": training, "diffusion": diffusion, "robustness": robustness}
    config = config.model_copy(update=resolved)
    if training.augmentation != "none" and len(facts.input_shape) == 1:
        raise InputError("training.augmentation: feature vectors cannot be flipped or cropped; set it to none")
    with torch.random.fork_rng(devices=[]):
        build_model(model.name, facts.input_shape, facts.classes, model.options)
    ground = Ground(
        config=config,
        fingerprint=facts.fingerprint,
        records=facts.records,
        input_shape=facts.input_shape,
        classes=facts.classes,
        source_digest=model_source_digest(model.name),
        device=device,
    )
    study = Study(config, space, facts, Blueprint(ground, space.stop_epochs(training.epochs)))
    _check_plan(study)
    _check_objectives(study)
    _check_trainings(study)
    return study


def _resolved_model(model: ModelConfig, facts: DataFacts) -> ModelConfig:
    if model.name != "auto":
        return model
    return model.model_copy(update={"name": "cnn" if len(facts.input_shape) == 3 else "mlp"})


def _check_plan(study: Study) -> None:
    members = len(next(iter(study.blueprint.plan(0).roles.values())))
    workers = study.config.engine.workers_per_model
    if study.config.training.batch_size < 2 * workers:
        raise InputError(
            f"training.batch_size is {study.config.training.batch_size}: {workers} workers need 2 records each in a "
            f"batch; set it to {2 * workers} or more"
        )
    if members < 2 * max(workers, 2):
        raise InputError(
            f"plan.part_size: {members} members are too few to train and attack; give {4 * max(workers, 2)} or more"
        )
    _check_coins(study.config)


def _check_coins(config: StudyConfig) -> None:
    """Their coins may leave a target all canaries, or none: then nothing tells members from others."""
    if not (canaries := config.plan.canaries):
        return
    for target in range(config.plan.targets):
        drawn = poisson_membership(canaries, seed=config.seed, target=target)
        if drawn.all() or not drawn.any():
            raise InputError(
                f"plan.canaries is {canaries}: target {target} would train on {'all' if drawn.all() else 'none'} of "
                "them; give 20 or more"
            )


def _check_objectives(study: Study) -> None:
    search = study.space.search
    if search.method != "optuna" or "worst_tpr" not in search.objectives:
        return
    members = study.blueprint.plan(0)[Role.TARGET_IN]
    unseen = (len(study.blueprint.plan(0).scored) - len(members)) * study.config.plan.targets
    if lowest_resolved_fpr(unseen) is None:
        raise InputError(
            f"search.objectives: {unseen} non-members over all targets resolve no false-positive rate for worst_tpr; "
            "raise plan.targets or plan.part_size, or go by worst_auc"
        )


def _check_trainings(study: Study) -> None:
    """Begin one training of each composition, on noise: a refusal comes before any model trains.

    Of the parts that need no artifact, which would have to be made first.
    """
    ground, members = study.blueprint.ground, study.blueprint.plan(0)[Role.TARGET_IN]
    for composition in study.space.compositions:
        alone = tuple(
            part for part in composition.parts if not part.needs_reserve and not _required(part, ground, members)
        )
        if any(overrides(part, "prepare") for part in alone):
            rehearse(ground, Composed(alone), len(members))


def _required(part: Defense, ground: Ground, members: NDArray[np.int64]) -> Sequence[Recipe]:
    """The artifacts that a model under this defense needs. Raises InputError for what the defense refuses."""
    nobody, last = np.zeros(0, dtype=np.int64), frozenset({ground.config.training.epochs})
    return ModelRecipe(ground, Composed((part,)), members, nobody, ("target", 0), last).requires()


def _domains(defenses: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        defense: {
            name: domain.model_dump() if hasattr(domain, "model_dump") else list(domain)
            for name, domain in hyperparameters.items()
        }
        for defense, hyperparameters in defenses.items()
    }
