"""What models withstand, and what attacks on membership make of adversarial queries."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raymia.adversarial import pgd_20, raise_loss
from raymia.attacks import attack_named
from raymia.errors import InputError
from raymia.metrics.robustness import measure_robustness
from raymia.recipes import robustness as robustness_module
from raymia.recipes.blueprint import models
from raymia.recipes.recipe import Bench, make
from raymia.recipes.robustness import RobustnessRecipe
from raymia.recipes.signals import unpack_arrays
from raymia.records import Records, load_records
from raymia.seeds import generator
from raymia.store import Store
from raymia.training.rows import as_pixels
from tests.recipes.conftest import CountingStore, study_of

BOTH = ["pgd20", "aa"]


def withstood(recipe: RobustnessRecipe, store: Store) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = unpack_arrays(store.read(recipe.artifacts[0])[0])["withstood"]
    return found


def robustness_of(records: Records, *entries: Any, **changes: Any) -> list[tuple[RobustnessRecipe, ...]]:
    """Of each setting's one target."""
    blueprint, settings = study_of(records, *entries, plan__targets=1, **changes)
    return [blueprint.result(setting).targets[0].robustness for setting in settings]


def test_adversarial_training_withstands_what_the_undefended_model_does_not(tmp_path: Any) -> None:
    """The pair that any evaluation must tell apart; and AutoAttack finds what PGD finds."""
    records = load_records("digits")
    plain, robust = robustness_of(
        records,
        {"none": None},
        {"pgd_at": {"epsilon": 0.1, "steps": 3, "step_size": 0.05}},
        plan__part_size=300,
        training__epochs=25,
        model__options__widths=[12, 24, 24],
        robustness__evaluations=BOTH,
        robustness__epsilon=0.1,
        robustness__step_size=0.02,
        robustness__images=60,
    )
    bench = Bench(records, Store(str(tmp_path / "artifacts")))
    found = {}
    for name, recipes in (("plain", plain), ("robust", robust)):
        for recipe in recipes:
            make(recipe, bench)
            found[name, recipe.evaluation] = withstood(recipe, bench.store)
    assert found["robust", "aa"].mean() > found["plain", "aa"].mean() + 0.3
    assert found["robust", "pgd20"].mean() > found["plain", "pgd20"].mean() + 0.3
    for name in ("plain", "robust"):
        assert (found[name, "aa"] & ~found[name, "pgd20"]).mean() <= 0.02
    assert plain[0].open(bench.store) == measure_robustness(found["plain", "pgd20"])


def test_every_setting_is_attacked_on_the_same_unseen_records(digits: Records) -> None:
    blueprint, settings = study_of(
        digits,
        {"none": None},
        {"dropout": {"rate": 0.3}},
        {"early_stopping": {"fraction": 0.5}},
        robustness__evaluations=BOTH,
        robustness__images=15,
    )
    by_target = [[blueprint.result(setting).targets[number] for setting in settings] for number in (0, 1)]
    for targets in by_target:
        [positions] = {tuple(one.positions) for target in targets for one in target.robustness}
        assert len(positions) == 15
        for target in targets:
            assert not set(positions) & set(target.signals.model.positions)
            assert set(positions) <= set(target.signals.positions)
    assert tuple(by_target[0][0].robustness[0].positions) != tuple(by_target[1][0].robustness[0].positions)
    stopped = by_target[0][2]
    assert {one.epoch for one in stopped.robustness} == {stopped.signals.epoch} == {1}


def test_its_settings_change_it_and_train_nothing_anew(digits: Records) -> None:
    def study(**changes: Any) -> tuple[list[str], dict[str, str], str]:
        blueprint, [setting] = study_of(digits, plan__targets=1, robustness__evaluations=BOTH, **changes)
        result = blueprint.result(setting)
        keys: dict[str, str] = {one.evaluation: one.key for one in result.targets[0].robustness}
        return [one.key for one in models([result])], keys, result.key

    trained, keys, result = study()
    for name, value, changed in (
        ("robustness__epsilon", 0.1, {"pgd20", "aa"}),
        ("robustness__norm", "l2", {"pgd20", "aa"}),
        ("robustness__images", 12, {"pgd20", "aa"}),
        ("robustness__step_size", 0.001, {"pgd20"}),
        ("queries", ["identity", "flip"], set()),
    ):
        other = study(**{name: value})
        assert other[0] == trained
        assert {one for one in keys if other[1][one] != keys[one]} == changed, name
        assert other[2] != result


@pytest.mark.parametrize("evaluation", BOTH)
def test_an_interrupted_evaluation_goes_on_and_finds_the_same(
    evaluation: str, digits: Records, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness_module, "_PART", 8)
    [(recipe,)] = robustness_of(digits, robustness__evaluations=[evaluation], robustness__images=20)
    undisturbed, disturbed = (CountingStore(str(tmp_path / name)) for name in ("one", "two"))
    make(recipe, Bench(digits, undisturbed))
    reports: list[int] = []

    def killed(done: int, total: int) -> None:
        reports.append(done)
        if len(reports) == 2:
            raise KeyboardInterrupt

    for requirement in recipe.requires():
        make(requirement, Bench(digits, disturbed))
    with pytest.raises(KeyboardInterrupt):
        recipe.build(Bench(digits, disturbed, report=killed))
    assert reports == [8, 16]
    recipe.build(Bench(digits, disturbed, report=killed))
    assert reports == [8, 16, 20], "the finished parts are not attacked again"
    np.testing.assert_array_equal(withstood(recipe, disturbed), withstood(recipe, undisturbed))
    assert f"checkpoints/{recipe.key}" not in dict(disturbed.names())


def test_results_hold_it_and_a_search_may_go_by_it(digits: Records, bench: Bench) -> None:
    blueprint, [setting] = study_of(digits, robustness__evaluations=["pgd20"])
    result = blueprint.result(setting)
    make(result, bench)
    measured = result.open(bench.store)
    found = [seed.robustness["pgd20"].accuracy for seed in measured.seeds]
    assert found == [target.robustness[0].open(bench.store).accuracy for target in result.targets]
    assert measured.outcome["robust_accuracy_pgd20"] == pytest.approx(np.mean(found))
    assert "robust_accuracy_aa" not in measured.outcome


def test_adversarial_queries_raise_the_loss_and_leave_utility_alone(digits: Records, bench: Bench) -> None:
    """Even where the first attack asks nothing else, accuracy is of the records as they are."""
    blueprint, [setting] = study_of(digits, plan__targets=1, attacks=["loss_adversarial", "loss"])
    plain, _ = study_of(digits, plan__targets=1, attacks=["loss"])
    result, reference = blueprint.result(setting), plain.result(setting)
    alone, _ = study_of(digits, plan__targets=1, attacks=["loss_adversarial"])
    only = alone.result(setting)
    for one in (only, result, reference):
        make(one, bench)
    measured = result.open(bench.store)
    assert measured.seeds[0].utility == reference.open(bench.store).seeds[0].utility
    assert measured.pooled["loss"] == reference.open(bench.store).pooled["loss"]
    adversarial, clean = (recipe.scores(bench.store)[0] for recipe in result.targets[0].scores)
    assert (adversarial < clean).all()  # scores are minus the loss
    assert only.open(bench.store).seeds[0].utility == measured.seeds[0].utility
    assert [one.crafted for one in (result.targets[0].scores[0].target, result.targets[0].scores[1].target)] == [1, 0]


def test_an_adversarial_query_is_the_models_own_example(digits: Records, bench: Bench) -> None:
    blueprint, [setting] = study_of(digits, plan__targets=1, attacks=["loss_adversarial"])
    signals = blueprint.result(setting).targets[0].scores[0].target
    make(signals, bench)
    config = blueprint.ground.config
    network = signals.model.bare(bench.store, bench.device, signals.epoch).model
    images = as_pixels(torch.from_numpy(digits.inputs[signals.positions]).permute(0, 3, 1, 2)).contiguous()
    labels = torch.from_numpy(digits.labels[signals.positions])
    rng = generator(config.seed, "adversarial queries")
    examples = raise_loss(network, images, labels, pgd_20(config.robustness), rng)
    assert float((examples - images).abs().max()) == pytest.approx(config.robustness.epsilon, abs=1e-6)
    with torch.no_grad():
        expected = network(examples).numpy()
    np.testing.assert_allclose(signals.open(bench.store).logits_NQC[:, 0], expected, atol=1e-5)
    other = config.robustness.model_copy(update={"epsilon": 0.2})
    ground = replace(blueprint.ground, config=config.model_copy(update={"robustness": other}))
    assert replace(signals, model=replace(signals.model, ground=ground)).key != signals.key
    assert replace(signals, model=replace(signals.model, ground=ground), crafted=False).key == (
        replace(signals, crafted=False).key
    )


def test_reference_attacks_ask_every_model_the_adversarial_way(digits: Records) -> None:
    blueprint, [setting] = study_of(
        digits, plan__targets=1, plan__references=16, attacks=["rmia_adversarial", "lira_online_adversarial", "rmia"]
    )
    rmia, lira, clean = blueprint.result(setting).targets[0].scores
    for recipe in (rmia, lira):
        asked = [recipe.target, *(one.signals for one in recipe.references), *recipe.outside]
        assert all(one.crafted for one in asked)
    assert len(rmia.outside) == 17
    assert not any(one.crafted for one in [clean.target, *(one.signals for one in clean.references), *clean.outside])


@pytest.mark.parametrize("name", ["label_only_augmentation", "gradient_norm", "quantile_regression"])
def test_attacks_on_more_than_an_answer_have_no_adversarial_form(name: str) -> None:
    assert attack_named(name).name == name
    with pytest.raises(InputError, match=f"leave out {name}_adversarial"):
        attack_named(f"{name}_adversarial")


def test_what_has_no_images_or_weights_is_refused(digits: Records) -> None:
    blueprint, _ = study_of(digits)
    flat = replace(blueprint.ground, input_shape=(64,))
    for changes, said in (
        ({"attacks": ("loss_adversarial",)}, "attacks: loss_adversarial: adversarial examples are images"),
        (
            {"robustness": flat.config.robustness.model_copy(update={"evaluations": ("pgd20",)})},
            "robustness.evaluations: adversarial examples are images",
        ),
    ):
        with pytest.raises(InputError, match=said):
            replace(blueprint, ground=replace(flat, config=flat.config.model_copy(update=changes)))
    custom = {"custom": {"function": "tests.recipes.test_custom:own_training"}}
    for changes, said in (
        ({"robustness__evaluations": ["pgd20"]}, r"robustness\.evaluations: needs? the weights"),
        ({"attacks": ["loss_adversarial"]}, "loss_adversarial needs the weights"),
    ):
        study, settings = study_of(digits, custom, **changes)
        with pytest.raises(InputError, match=said):
            study.result(settings[1])
