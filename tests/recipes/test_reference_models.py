"""Reference models and canaries in a study: who trains on what, who is asked what, and what is not run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raymia.attacks import LEAST_IN, attack_named
from raymia.errors import InputError
from raymia.metrics.populations import ALL, DIRECT
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, make, walk
from raymia.recipes.result import TargetRecipes
from raymia.recipes.scores import ScoresRecipe, Witness
from raymia.recipes.witnesses import Witnesses
from raymia.records import Records
from raymia.records.plan import Exposure, Role
from raymia.store import Store
from raymia.study.publish import left_out_lines
from tests.recipes.conftest import study_of

REFERENCED = {"plan__references": 16, "plan__targets": 1, "attacks": ["loss", "lira_online", "rmia"]}


def scores_of(target: TargetRecipes) -> dict[str, ScoresRecipe]:
    return {one.measure: one for one in target.scores if isinstance(one, ScoresRecipe)}


def reference_models(scores: ScoresRecipe) -> list[ModelRecipe]:
    models = [one.signals.model for one in scores.references]
    assert all(isinstance(one, ModelRecipe) for one in models)
    return models  # type: ignore[return-value]


def test_references_train_on_halves_of_the_scored_records_and_are_asked_about_all(digits: Records) -> None:
    blueprint, [setting] = study_of(digits, **REFERENCED)
    plan = blueprint.plan(0)
    lira = scores_of(blueprint.result(setting).targets[0])["lira_online"]
    models = reference_models(lira)
    assert len({model.key for model in models}) == 16
    trained = np.stack([np.isin(plan.scored, model.positions) for model in models])
    assert (trained.sum(axis=0) == 8).all()
    for model, witness in zip(models, lira.references, strict=True):
        assert len(model.positions) == len(plan[Role.TARGET_IN])
        np.testing.assert_array_equal(witness.signals.positions, plan.scored)
        np.testing.assert_array_equal(witness.exposure, Exposure.DIRECT * np.isin(plan.scored, model.positions))


def test_more_references_keep_those_there_are(digits: Records) -> None:
    few, many = (
        study_of(digits, **REFERENCED | {"plan__references": count}) for count in (16, 32)
    )  # fmt: skip
    keys = [
        [model.key for model in reference_models(scores_of(blueprint.result(setting).targets[0])["lira_online"])]
        for blueprint, [setting] in (few, many)
    ]
    assert keys[1][:16] == keys[0]
    assert len(set(keys[1])) == 32


def test_only_the_attacks_that_ask_for_references_wait_for_them(digits: Records) -> None:
    blueprint, [setting] = study_of(digits, **REFERENCED)
    scores = scores_of(blueprint.result(setting).targets[0])
    kinds = {name: sum(one.kind == "models" for one in walk([recipe])) for name, recipe in scores.items()}
    assert kinds == {"loss": 2, "lira_online": 17, "rmia": 17}
    plan = blueprint.plan(0)
    outside = scores["rmia"].outside
    assert len(outside) == 17
    for signals in outside:
        np.testing.assert_array_equal(signals.positions, plan.shadow)
        assert not np.isin(signals.model.positions, plan.shadow).any()
    alone, [same] = study_of(digits, plan__targets=1, attacks=["loss"])
    assert scores_of(alone.result(same).targets[0])["loss"].key == scores["loss"].key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attacks": ["lira_offline"]}, "lira_offline needs reference models; set plan.references"),
        ({"attacks": ["label_only_augmentation"]}, "needs further queries; set queries"),
        ({"queries": ["flip"]}, "begin with identity"),
        ({"plan__references": 8, "attacks": ["lira_online"]}, "plan.references"),
    ],
)
def test_attacks_without_what_they_need_are_refused(digits: Records, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        study_of(digits, **changes)


def witnesses_with(share: float) -> Witnesses:
    """Sixteen references, each of which trained on a share of the records that it met."""
    rng = np.random.default_rng(0)
    met = np.stack([rng.permutation(np.arange(40) % 2 == 0) for _ in range(8)])
    met = np.concatenate([met, ~met])
    exposure = np.where(met, np.where(rng.random(met.shape) < share, 2, 1), 0).astype(np.int8)
    witness = Witness(None, np.where(np.arange(40) < 20, 2, 0).astype(np.int8))  # type: ignore[arg-type]
    return Witnesses(witness, witness, tuple(replace(witness, exposure=one) for one in exposure), ())


def test_online_attacks_are_left_out_where_too_few_references_are_in() -> None:
    online, offline = attack_named("lira_online"), attack_named("lira_offline")
    everyone, some = witnesses_with(1.0), witnesses_with(0.3)
    assert everyone.runs(online, DIRECT)
    assert everyone.left_out((online, offline), DIRECT) == []
    assert some.runs(online, ALL)
    assert not some.runs(online, DIRECT)
    assert some.left_out((online, offline), DIRECT) == ["lira_online/direct"]
    assert LEAST_IN == 4


@pytest.mark.parametrize(("inside", "runs"), [(LEAST_IN - 1, False), (LEAST_IN, True)])
def test_one_record_with_too_few_references_in_is_enough(inside: int, runs: bool) -> None:
    member = Witness(None, np.array([2, 2, 0, 0], dtype=np.int8))  # type: ignore[arg-type]
    exposure = np.full((16, 4), Exposure.DIRECT, dtype=np.int8)
    exposure[inside:, 1] = Exposure.INDIRECT
    references = tuple(replace(member, exposure=one) for one in exposure)
    witnesses = Witnesses(member, member, references, ())
    assert witnesses.runs(attack_named("lira_online"), DIRECT) is runs
    assert witnesses.runs(attack_named("lira_online"), ALL)


def test_direct_members_that_few_references_trained_on_are_attacked_offline_alone(digits: Records) -> None:
    """Of 32 references 16 have a record, and of these about one in five trains on it."""
    attacks = ["loss", "lira_online", "lira_offline"]
    entry = {"diffusion_mixup": {"subset": 0.2, "per_class": 4}}
    blueprint, settings = study_of(
        digits, entry, **REFERENCED | {"attacks": attacks, "plan__part_size": 100, "plan__references": 32}
    )
    undefended, mixed = (blueprint.result(setting) for setting in settings)
    assert undefended.left_out == ()
    assert mixed.left_out == ("lira_online/direct",)
    measures = {one.measure for one in mixed.targets[0].scores if isinstance(one, ScoresRecipe)}
    assert {"lira_online", "lira_offline/direct", "lira_online/indirect"} <= measures
    assert "lira_online/direct" not in measures
    [line] = left_out_lines({mixed.label: mixed.left_out})
    assert "fewer than 4 references" in line
    assert "lira_online/direct (diffusion_mixup" in line


def test_a_measure_that_one_target_lacks_is_taken_of_none(digits: Records) -> None:
    blueprint, [setting] = study_of(digits, attacks=["loss", "entropy"])
    target = blueprint.target(setting, 0)
    assert [one.measure for one in target.without(["entropy"]).scores] == ["loss"]


# Canaries.

CANARIES = {"plan__canaries": 30, "plan__targets": 2, "plan__references": 16, "attacks": ["loss", "lira_online"]}


def test_canaries_are_the_same_for_every_target_and_drawn_by_coins(digits: Records) -> None:
    blueprint, [setting] = study_of(digits, **CANARIES)
    plans = [blueprint.plan(target) for target in range(2)]
    canaries = plans[0][Role.CANARY]
    np.testing.assert_array_equal(canaries, plans[1][Role.CANARY])
    assert len(canaries) == 30
    drawn = []
    for plan, target in zip(plans, blueprint.result(setting).targets, strict=True):
        assert not np.isin(canaries, [*plan.scored, *plan.shadow]).any()
        scores = scores_of(target)
        assert set(scores) == {"loss", "lira_online", "loss/canary", "lira_online/canary"}
        audited = scores["loss/canary"]
        np.testing.assert_array_equal(audited.target.positions, canaries)
        members = audited.target.model.positions
        np.testing.assert_array_equal(np.setdiff1d(members, canaries), plan[Role.TARGET_IN])
        drawn.append(np.isin(canaries, members))
        np.testing.assert_array_equal(audited.exposure > 0, drawn[-1])
        references = np.stack([one.exposure > 0 for one in scores["lira_online/canary"].references])
        assert (references.sum(axis=0) == 8).all()
        for one in scores["lira_online/canary"].references:
            others = np.setdiff1d(one.signals.model.positions, canaries)
            np.testing.assert_array_equal(others, plan[Role.TARGET_IN])  # who is no canary is in every one of them
        for one in scores["lira_online"].references:
            assert not np.isin(one.signals.model.positions, canaries).any()
    assert 5 < drawn[0].sum() < 25
    assert (drawn[0] != drawn[1]).any()


def test_planted_canaries_change_nobody_else(digits: Records) -> None:
    blueprint, _ = study_of(digits, **CANARIES)
    canaries = blueprint.plan(0)[Role.CANARY]
    planted = blueprint.planted(digits)
    assert (planted.labels[canaries] != digits.labels[canaries]).all()
    others = np.setdiff1d(np.arange(len(digits)), canaries)
    np.testing.assert_array_equal(planted.labels[others], digits.labels[others])
    assert planted.inputs is digits.inputs
    noise, _ = study_of(digits, **CANARIES | {"plan__canary_kind": "noise"})
    images = noise.planted(digits)
    assert (images.inputs[canaries] != digits.inputs[canaries]).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(images.inputs[others], digits.inputs[others])
    clean, _ = study_of(digits, **CANARIES | {"plan__canary_kind": "clean"})
    assert clean.planted(digits) is digits


def test_what_canaries_are_made_of_is_part_of_every_model(digits: Records) -> None:
    keys = set()
    for kind in ("clean", "mislabeled", "noise"):
        blueprint, [setting] = study_of(digits, **CANARIES | {"plan__canary_kind": kind})
        keys.add(blueprint.result(setting).targets[0].signals.model.key)
    assert len(keys) == 3


def test_noise_canaries_need_images(digits: Records) -> None:
    vectors = replace(digits, inputs=digits.inputs.reshape(len(digits), -1).astype(np.float32))
    blueprint, _ = study_of(digits, **CANARIES | {"plan__canary_kind": "noise"})
    ground = replace(blueprint.ground, input_shape=(64,), fingerprint=vectors.fingerprint)
    with pytest.raises(InputError, match="noise is for images"):
        replace(blueprint, ground=ground)


@pytest.mark.slow
def test_mislabeled_canaries_learned_by_heart_give_a_bound_on_epsilon(digits: Records, tmp_path: Path) -> None:
    blueprint, [setting] = study_of(
        digits,
        plan__part_size=40,
        plan__canaries=120,
        plan__targets=2,
        attacks=["loss"],
        model__name="mlp",
        model__options={"hidden": [128]},
        training__epochs=60,
        training__batch_size=20,
    )
    store = Store(str(tmp_path))
    result = blueprint.result(setting)
    make(result, Bench(blueprint.planted(digits), store))
    measured = result.open(store)
    canary = measured.pooled["loss/canary"]
    assert canary.auc > 0.9
    assert canary.epsilon_lower is not None
    assert 0.8 < canary.epsilon_lower < 1.8  # 24 guesses show no more
    assert measured.pooled["loss"].epsilon_lower is None
    # Of two targets the better bound is taken, at a level that holds for both.
    each = [seed.attacks["loss/canary"].epsilon_lower for seed in measured.seeds]
    assert canary.epsilon_lower < max(bound for bound in each if bound is not None)
    assert measured.outcome["worst_auc"] == measured.pooled["loss"].auc  # canaries are no setting's worst


def test_targets_of_a_shared_plan_have_their_references_in_common(digits: Records) -> None:
    blueprint, [setting] = study_of(digits, **REFERENCED | {"plan__kind": "shared", "plan__targets": 3})
    scores = [scores_of(target)["lira_online"] for target in blueprint.result(setting).targets]
    references = [[model.key for model in reference_models(one)] for one in scores]
    assert references[0] == references[1] == references[2]
    assert len({one.target.model.key for one in scores}) == 3
    assert sum(one.kind == "models" for one in walk([blueprint.result(setting)])) == 3 + 3 + 16


def test_a_replication_attacks_each_model_by_the_others(digits: Records) -> None:
    changes = {"plan__kind": "half", "plan__targets": 2, "attacks": ["loss", "lira_online"]}
    blueprint, [setting] = study_of(digits, **REFERENCED | changes)
    result = blueprint.result(setting)
    assert sum(one.kind == "models" for one in walk([result])) == 16
    for target in result.targets:
        scores = scores_of(target)["lira_online"]
        own = scores.target.model.key
        others = [model.key for model in reference_models(scores)]
        assert len(others) == 15
        assert own not in others
        trained = np.stack([one.exposure > 0 for one in scores.references]).sum(axis=0)
        np.testing.assert_array_equal(trained, 8 - (scores.exposure > 0))


@pytest.mark.parametrize("attack", ["nn_sorted_logits", "rmia", "quantile_regression"])
def test_a_replication_has_no_records_for_some_attacks(digits: Records, attack: str) -> None:
    with pytest.raises(InputError, match=rf"{attack} needs records that plan\.kind half has not"):
        study_of(digits, **REFERENCED | {"plan__kind": "half", "attacks": [attack]})
