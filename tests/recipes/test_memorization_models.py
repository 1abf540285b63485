"""The models by which records are scored for memorization: apart from the attacker's, ordinary, and balanced."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from raymia.config import ModelConfig
from raymia.errors import InputError
from raymia.recipes.blueprint import Blueprint
from raymia.recipes.memorization import MemorizationModels, memorization_models
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, make, walk
from raymia.recipes.scores import ScoresRecipe
from raymia.records import Records
from raymia.space import Setting
from raymia.store import Store
from tests.recipes.conftest import ground_of, study_of

REFERENCED: dict[str, Any] = {"plan__references": 16, "attacks": ["loss", "lira_online"]}


def trained_by(owned: MemorizationModels) -> list[ModelRecipe]:
    found = [one.model for one in owned.answers]
    assert all(isinstance(one, ModelRecipe) for one in found)
    return found  # type: ignore[return-value]


def attackers(blueprint: Blueprint, setting: Setting) -> list[ModelRecipe]:
    """The references of every target."""
    scores = [one for target in blueprint.result(setting).targets for one in target.scores]
    witnesses = [one.references for one in scores if isinstance(one, ScoresRecipe) and one.attack.name == "lira_online"]
    found = [witness.signals.model for some in witnesses for witness in some]
    assert len(found) == 16 * len(witnesses) > 0
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["quad", "shared"])
def test_neither_a_half_nor_a_stream_is_shared_with_the_attacker(digits: Records, kind: str) -> None:
    blueprint, [setting] = study_of(digits, plan__kind=kind, **REFERENCED)
    own = [model for owned in memorization_models(blueprint, 32) for model in trained_by(owned)]
    theirs = attackers(blueprint, setting)
    assert not {one.seed for one in own} & {one.seed for one in theirs}
    for one, other in product(own, theirs):
        assert not np.array_equal(one.positions, other.positions)


def test_each_target_has_models_on_balanced_halves_of_its_own_scored_records(digits: Records) -> None:
    blueprint, _ = study_of(digits)
    models = memorization_models(blueprint, 32)
    assert [one.owner for one in models] == [0, 1]
    assert len({model.key for owned in models for model in trained_by(owned)}) == 64
    assert not np.array_equal(models[0].in_MN, models[1].in_MN)
    for number, owned in enumerate(models):
        scored = blueprint.plan(number).scored
        assert owned.in_MN.shape == (32, 80)
        assert (owned.in_MN.sum(axis=0) == 16).all()
        for model, answers, inside in zip(trained_by(owned), owned.answers, owned.in_MN, strict=True):
            assert len(model.positions) == 40
            np.testing.assert_array_equal(model.positions, scored[inside])
            np.testing.assert_array_equal(answers.positions, scored)


def test_targets_that_share_their_records_share_the_models(digits: Records) -> None:
    blueprint, _ = study_of(digits, plan__kind="shared", plan__targets=3)
    first, *others = memorization_models(blueprint, 16)
    assert len(others) == 2
    assert all(one is first for one in others)
    np.testing.assert_array_equal(first.answers[0].positions, blueprint.plan(2).scored)


def test_more_of_them_only_add_to_those_there_are(digits: Records) -> None:
    blueprint, _ = study_of(digits)
    few, many = (memorization_models(blueprint, count)[1] for count in (16, 48))
    keys = [[model.key for model in trained_by(owned)] for owned in (few, many)]
    assert keys[1][:16] == keys[0]
    assert len(set(keys[1])) == 48


def test_they_are_the_same_and_undefended_whatever_the_study_defends_with(digits: Records) -> None:
    defended, _ = study_of(digits, {"dropout": {"rate": [0.5]}}, {"early_stopping": {"fraction": [0.5]}}, **REFERENCED)
    plain, _ = study_of(digits)
    keys = [[one.key for owned in memorization_models(each, 16) for one in owned.answers] for each in (defended, plain)]
    assert keys[0] == keys[1]
    [model, answers] = list(walk([memorization_models(defended, 16)[0].answers[0]]))
    assert isinstance(model, ModelRecipe)
    assert model.defense.parts == ()
    assert model.snapshots == {2}
    assert answers.kind == "signals"


@pytest.mark.parametrize(
    ("references", "remedy"), [(0, "give 16"), (8, "give 16"), (20, "give 32"), (33, "give 48"), (-16, "give 16")]
)
def test_other_numbers_than_whole_blocks_are_refused(digits: Records, references: int, remedy: str) -> None:
    blueprint, _ = study_of(digits)
    with pytest.raises(InputError, match=f"--references {references}: they come in blocks of 16; {remedy}"):
        memorization_models(blueprint, references)


def test_a_plan_whose_models_are_all_targets_is_refused(digits: Records) -> None:
    blueprint, _ = study_of(digits, plan__kind="half", plan__references=16, plan__targets=1, attacks=["lira_online"])
    with pytest.raises(InputError, match=r"plan\.kind: half has no records of a target's own"):
        memorization_models(blueprint, 16)


def test_records_learned_by_heart_are_told_from_those_learned_from_others(
    digits: Records, noise: Records, store: Store
) -> None:
    """Labels drawn at random can only be learned by heart; those of digits mostly from other digits."""
    changes = {"training.epochs": 60, "training.checkpoint_every": 60, "plan.targets": 1}
    scores = []
    for records in (digits, noise):
        ground = ground_of(records, changes)
        perceptron = ground.config.model_copy(update={"model": ModelConfig(name="mlp", options={"hidden": (64,)})})
        blueprint = Blueprint(replace(ground, config=perceptron), {})
        [owned] = memorization_models(blueprint, 16)
        bench = Bench(records, store)
        for one in owned.answers:
            make(one, bench)
        measured = owned.measure(store)
        scores.append(measured.scores)
        assert (measured.in_N == 8).all()
        assert (measured.out_N == 8).all()
        # Counted again, one record at a time.
        for place in (0, 37, 79):
            right = [
                bool(one.open(store).logits_NQC[place, 0].argmax() == records.labels[one.positions[place]])
                for one in owned.answers
            ]
            position = owned.answers[0].positions[place]
            inside = [position in model.positions for model in trained_by(owned)]
            assert measured.right_in_N[place] == sum(a and b for a, b in zip(right, inside, strict=True))
            assert measured.right_out_N[place] == sum(a and not b for a, b in zip(right, inside, strict=True))
    learned, by_heart = (float(one.mean()) for one in scores)
    assert by_heart > learned + 0.4
