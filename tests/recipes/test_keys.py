"""What makes another artifact, and what does not."""

from typing import Any

import numpy as np
import pytest

from raymia.config import EngineConfig, TrainingConfig
from raymia.defenses import Dropout, EarlyStopping, Mixup, RelaxLoss
from raymia.recipes import ground as ground_module
from raymia.recipes.blueprint import Blueprint, models
from raymia.recipes.ground import Ground, describe
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Recipe
from raymia.records import Records
from raymia.records.plan import Role
from raymia.training.defense import Composed, Defense
from raymia.versions import VERSIONS
from tests.recipes.conftest import ground_of, study_of

# Another valid value for each field of TrainingConfig: a new field must be given one here.
OTHER: dict[str, Any] = {
    "epochs": 7,
    "batch_size": 16,
    "optimizer": "adam",
    "learning_rate": 0.001,
    "momentum": 0.5,
    "nesterov": True,
    "weight_decay": 0.3,
    "schedule": "step",
    "milestones": (0.25,),
    "gamma": 0.5,
    "warmup": 0.3,
    "augmentation": "flip",
    "precision": "bf16",
    "checkpoint_every": 7,
}
NOBODY = np.zeros(0, dtype=np.int64)
SOME = np.arange(0, 40, 2)


def model(ground: Ground, *defenses: Defense, **changes: Any) -> ModelRecipe:
    values: dict[str, Any] = {"positions": SOME, "reserve": NOBODY, "stream": ("target", 0), "snapshots": {2}}
    return ModelRecipe(ground, Composed(defenses), **(values | changes))


@pytest.mark.parametrize("field", TrainingConfig.model_fields)
def test_every_training_setting_but_the_checkpoints_makes_another_model(digits: Records, field: str) -> None:
    ground = ground_of(digits)
    assert OTHER[field] != getattr(ground.config.training, field)
    changed = ground_of(digits, {f"training.{field}": OTHER[field]})
    assert (model(changed).key == model(ground).key) == (field == "checkpoint_every")


def test_engine_settings_count_where_they_change_the_arithmetic(digits: Records) -> None:
    key = model(ground_of(digits)).key
    other = {"workers_per_model": 2, "threads_per_worker": 2, "gpus_per_worker": 0.5, "in_memory_gb": 1.0}
    assert set(other) == set(EngineConfig.model_fields)
    keys = {name: model(ground_of(digits, {f"engine.{name}": value})).key for name, value in other.items()}
    # How a GPU is shared is not part of a model; that it is one is: `device`. Nor is where its rows are read from.
    assert {name for name in keys if keys[name] == key} == {"gpus_per_worker", "in_memory_gb"}
    ground = ground_of(digits)
    on_gpu = Ground(**{name: getattr(ground, name) for name in ground.__dataclass_fields__} | {"device": "cuda"})
    assert model(on_gpu).key != key


@pytest.mark.parametrize(
    ("setting", "value"), [("seed", 1), ("model.options.widths", [4, 8, 9]), ("model.name", "mlp")]
)
def test_seed_and_architecture_make_another_model(digits: Records, setting: str, value: Any) -> None:
    changes = {setting: value} | ({"model.options": {}} if setting == "model.name" else {})
    assert model(ground_of(digits, changes)).key != model(ground_of(digits)).key


@pytest.mark.parametrize(
    ("setting", "value"),
    [("attacks", ["entropy"]), ("plan.targets", 3), ("training.checkpoint_every", 2), ("data.limit", 400)],
)
def test_what_does_not_change_a_model_keeps_its_key(digits: Records, setting: str, value: Any) -> None:
    assert model(ground_of(digits, {setting: value})).key == model(ground_of(digits)).key


def test_each_part_of_the_ground_and_the_recipe_counts(digits: Records) -> None:
    ground = ground_of(digits)
    values = {name: getattr(ground, name) for name in ground.__dataclass_fields__}
    grounds = [Ground(**values | change) for change in ({"fingerprint": "x"}, {"source_digest": "x"})]
    recipes = [
        model(ground),
        *(model(other) for other in grounds),
        model(ground, positions=SOME + 1),
        model(ground, stream=("shadow", 0)),
        model(ground, stream=("target", 1)),
        model(ground, Mixup(alpha=0.1)),
        model(ground, Mixup(alpha=0.2)),
        model(ground, Mixup(alpha=0.2), Dropout(rate=0.5)),
        model(ground, Dropout(rate=0.5), Mixup(alpha=0.2)),
        model(ground, RelaxLoss(alpha=1)),
        model(ground, RelaxLoss(alpha=1, upper=0.5)),
    ]
    assert len({recipe.key for recipe in recipes}) == len(recipes)


@pytest.mark.parametrize("stage", ["records", "models", "training"])
def test_a_raised_version_retires_the_models(digits: Records, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model(ground_of(digits)).key
    monkeypatch.setitem(VERSIONS, stage, VERSIONS[stage] + 1)
    assert ground_module.VERSIONS is VERSIONS
    assert model(ground_of(digits)).key != before


def test_a_raised_version_of_a_defense_retires_its_models_only(
    digits: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = ground_of(digits)
    plain, mixed = model(ground).key, model(ground, Mixup(alpha=1)).key
    monkeypatch.setattr(Mixup, "version", 2)
    assert model(ground).key == plain
    assert model(ground, Mixup(alpha=1)).key != mixed


def test_later_versions_leave_the_models_but_not_what_follows(digits: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> dict[str, str]:
        blueprint, [setting] = study_of(digits)
        result = blueprint.result(setting)
        scores = result.targets[0].scores[0]
        return {
            "models": scores.target.model.key,
            "signals": scores.target.key,
            "scores": scores.key,
            "results": result.key,
        }

    before = keys()
    for stage, changed in {
        "signals": {"signals", "scores", "results"},
        "attacks": {"scores", "results"},
        "metrics": {"scores", "results"},
    }.items():
        with monkeypatch.context() as patch:
            patch.setitem(VERSIONS, stage, VERSIONS[stage] + 1)
            after = keys()
        assert {kind for kind in after if after[kind] != before[kind]} == changed


def test_keeping_more_models_is_the_same_training(digits: Records) -> None:
    ground = ground_of(digits)
    assert model(ground, snapshots={1, 2}).key == model(ground).key
    assert model(ground, EarlyStopping(fraction=0.5)).key == model(ground).key
    assert model(ground, reserve=SOME + 1).key == model(ground).key  # no defense here asks for it


def keys_of(recipes: list[Recipe]) -> set[str]:
    return {recipe.key for recipe in models(recipes)}


def results(blueprint: Blueprint, settings: list[Any]) -> list[Recipe]:
    return [blueprint.result(setting) for setting in settings]


def test_a_study_of_another_name_or_attack_list_reuses_every_model(digits: Records) -> None:
    entry = {"mixup": {"alpha": [0.1, 0.2]}}
    plain = results(*study_of(digits, entry))
    assert len(keys_of(plain)) == 2 * 2 * 3  # target and shadow, two targets, three settings
    attacked = results(*study_of(digits, entry, attacks=["modified_entropy", "loss"]))
    assert keys_of(attacked) == keys_of(plain)
    assert {one.key for one in attacked}.isdisjoint(one.key for one in plain)
    wider = results(*study_of(digits, entry, {"dropout": {"rate": 0.5}}))
    assert keys_of(wider) > keys_of(plain)
    more = results(*study_of(digits, entry, plan__targets=3))
    assert keys_of(more) > keys_of(plain)


def test_a_changed_setting_is_trained_anew(digits: Records) -> None:
    plain = results(*study_of(digits, {"mixup": {"alpha": 0.1}}))
    assert keys_of(results(*study_of(digits, {"mixup": {"alpha": 0.1}}, training__epochs=3))).isdisjoint(keys_of(plain))
    other = results(*study_of(digits, {"mixup": {"alpha": 0.3}}))
    assert len(keys_of(other) & keys_of(plain)) == 4  # the undefended ones


def test_every_setting_meets_the_same_plans_and_seeds(digits: Records) -> None:
    blueprint, settings = study_of(
        digits, {"mixup": {"alpha": [0.1, 0.2]}}, {"relaxloss": {"alpha": 1}}, {"early_stopping": {"fraction": 0.5}}
    )
    made = [blueprint.result(setting) for setting in settings]
    for number in range(2):
        plan = blueprint.plan(number)
        for result in made:
            scores = result.targets[number].scores[0]
            for signals, members, answered in (
                (scores.target, plan[Role.TARGET_IN], plan.scored),
                (scores.shadow.signals, plan[Role.SHADOW_IN], plan.shadow),
            ):
                trained = signals.model
                assert isinstance(trained, ModelRecipe)
                np.testing.assert_array_equal(trained.positions, members)
                np.testing.assert_array_equal(signals.positions, answered)
            np.testing.assert_array_equal(scores.exposure, 2 * np.isin(plan.scored, plan[Role.TARGET_IN]))
            np.testing.assert_array_equal(scores.shadow.exposure, 2 * np.isin(plan.shadow, plan[Role.SHADOW_IN]))
    seeds = {(number, one.targets[number].scores[0].target.model.seed) for one in made for number in (0, 1)}  # type: ignore[attr-defined]
    assert len(seeds) == 2
    assert len({seed for _, seed in seeds}) == 2


def test_a_shadow_is_trained_as_its_target_is(digits: Records) -> None:
    blueprint, [_, setting] = study_of(digits, {"mixup": {"alpha": 0.2}, "early_stopping": {"fraction": 0.5}})
    scores = blueprint.result(setting).targets[0].scores[0]
    target, shadow = scores.target.model, scores.shadow.signals.model
    assert target.defense == shadow.defense
    assert scores.target.epoch == scores.shadow.signals.epoch == 1
    assert target.key != shadow.key


def test_labels_tell_settings_apart_for_people() -> None:
    assert describe(Composed((Mixup(alpha=0.25),))) == "mixup alpha=0.25"
    assert describe(Composed((RelaxLoss(alpha=1, variant="paper"), Dropout(rate=0.5)))) == (
        "relaxloss alpha=1 variant=paper + dropout rate=0.5"
    )
    assert describe(Composed((RelaxLoss(alpha=1),))) == "relaxloss alpha=1"
