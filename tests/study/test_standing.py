"""What a change to a study's settings leaves standing, told without training anything."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raymia.config import build_config
from raymia.engine.workshop import Tally
from raymia.errors import InputError
from raymia.recipes.blueprint import models
from raymia.recipes.recipe import walk
from raymia.space import Space
from raymia.space_files import parse_space
from raymia.store import Store
from raymia.study.facts import DataFacts
from raymia.study.folder import StudyFolder
from raymia.study.price import price, slow_parts
from raymia.study.run import Counter, Trials, Watcher
from raymia.study.standing import standing
from raymia.study.study import Study, assemble

BASE: dict[str, Any] = {
    "plan.part_size": 40,
    "plan.targets": 2,
    "training.epochs": 2,
    "training.precision": "fp32",
    "model.options": {"widths": [4, 8, 8]},
    "attacks": ["loss", "entropy"],
}
FACTS = DataFacts("0" * 32, 1797, (1, 8, 8), tuple("0123456789"), (180,) * 10, 0, "digits")
MIXUP: dict[str, Any] = {"settings": [{"mixup": {"alpha": [0.5]}}]}


def space(content: dict[str, Any] = MIXUP, name: str = "a") -> Space:
    return parse_space(content, Path(f"{name}.yaml"))


def study(searched: Space | None = None, facts: DataFacts = FACTS, **changes: Any) -> Study:
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    return assemble(build_config(None, BASE | changed), searched or space(), facts)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that holds an artifact for everything of the base study but its results."""
    store = Store(str(tmp_path / "artifacts"))
    for recipe in walk(study().recipes):
        for name in recipe.artifacts if recipe.kind != "results" else ():
            store.write(name, b"made before", {})
    return store


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attacks": ["loss", "entropy", "modified_entropy"]},
        {"attacks": ["entropy"]},
        {"training__checkpoint_every": 1},
        {"searched": space(MIXUP | {"description": "the same, described otherwise"}, "another_name")},
        {"searched": space({"settings": [{"mixup": {"alpha": [0.5]}}, {"none": {}}]})},
    ],
    ids=str,
)
def test_a_change_that_does_not_matter_to_the_models_retrains_none(store: Store, changes: dict[str, Any]) -> None:
    found = standing(study(**changes), store)
    assert (found.models, found.reused) == (8, 8)


@pytest.mark.parametrize(
    "changes",
    [
        {"training__epochs": 3},
        {"training__learning_rate": 0.01},
        {"training__precision": "bf16"},
        {"model__options": {"widths": [4, 8, 9]}},
        {"plan__part_size": 41},
        {"seed": 1},
        {"engine__threads_per_worker": 2},
        {"facts": DataFacts("1" * 32, 1797, (1, 8, 8), tuple("0123456789"), (180,) * 10, 0, "digits")},
    ],
    ids=str,
)
def test_a_change_that_matters_retrains_all(store: Store, changes: dict[str, Any]) -> None:
    found = standing(study(**changes), store)
    assert (found.models, found.reused) == (8, 0)


def test_more_of_the_same_trains_only_what_is_new(store: Store) -> None:
    more_targets = standing(study(plan__targets=5), store)
    assert (more_targets.models, more_targets.reused) == (20, 8)
    stops = space({"settings": [{"early_stopping": {"fraction": [0.5, 1.0]}}, {"mixup": {"alpha": [0.5, 0.4]}}]})
    # The undefended models were not kept after half of the epochs: they train again; two mixup settings share nothing.
    assert (standing(study(stops), store).models, standing(study(stops), store).reused) == (12, 4)


def test_a_damaged_artifact_is_named_and_not_counted(store: Store) -> None:
    [victim, *_] = [recipe for recipe in walk(study().recipes) if recipe.kind == "models"]
    path = Path(store.root) / victim.artifacts[0]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    found = standing(study(), store)
    assert list(found.damaged) == [victim.artifacts[0]]
    assert found.damaged[victim.artifacts[0]].key == victim.key
    assert (found.reused, found.complete) == (7, False)


def test_a_fresh_run_counts_nothing_as_there(store: Store) -> None:
    found = standing(study(), Store(store.root, fresh="now"))
    assert (found.models, found.reused, found.complete, found.damaged) == (8, 0, False, {})
    assert price(study(), Store(store.root, fresh="now")).reused == 0
    assert price(study(), store).reused == 8


def test_an_empty_store_has_nothing(tmp_path: Path) -> None:
    found = standing(study(), Store(str(tmp_path / "none")))
    assert (found.models, found.reused, found.complete) == (8, 0, False)
    assert [setting.label for setting, _ in found.settings] == ["none", "mixup alpha=0.5"]
    assert not (tmp_path / "none").exists()


def test_a_studys_name_tells_it_from_every_other() -> None:
    names = {
        study(**changes).default_name
        for changes in ({}, {"seed": 1}, {"attacks": ["loss"]}, {"plan__targets": 3}, {"training__epochs": 3})
    }
    assert len(names) == 5
    assert study().default_name == study(searched=space(MIXUP | {"description": "else"})).default_name
    assert study().default_name.startswith("a-digits-")


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"training__epochs": 3}, "training.epochs is 2 there, 3 here"),
        ({"attacks": ["loss"]}, "attacks is ['loss', 'entropy'] there, ['loss'] here"),
        ({"searched": space(name="b", content={"settings": [{"dropout": {"rate": [0.5]}}]})}, "space a there, b here"),
        (
            {"searched": space({"settings": [{"dropout": {"rate": [0.5]}}]})},
            "its data, its space or the code's version",
        ),
    ],
)
def test_the_folder_of_another_study_is_refused_with_what_differs(
    changes: dict[str, Any], difference: str, tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path, "mine")
    folder.path.mkdir()
    folder.write_record(study(), "complete", {})
    folder.check(study())
    with pytest.raises(Exception, match="--name mine") as refused:
        folder.check(study(**changes))
    assert difference in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_price_tells_slow_steps_from_plain_ones() -> None:
    content = {"settings": [{"pgd_at": {"steps": 2}, "demem": {"strength": 0.2}}, {"mixup": {"alpha": 0.5}}]}
    kinds = {tuple(part.name for part in slow_parts(one)) for one in models(study(space(content)).recipes)}
    assert kinds == {(), ("pgd_at",)}


def test_a_study_makes_the_evaluations_of_its_space_and_of_its_configuration() -> None:
    wanted = space(MIXUP | {"robustness": ["aa"]})
    assert study(wanted).config.robustness.evaluations == ("aa",)
    assert study(wanted, robustness__evaluations=["pgd20"]).config.robustness.evaluations == ("pgd20", "aa")
    assert study().config.robustness.evaluations == ()
    assert study(wanted).key != study().key


def test_a_search_by_tpr_needs_enough_nonmembers() -> None:
    search = {"method": "optuna", "objectives": ["test_accuracy", "worst_tpr"]}
    wanted = space({"settings": [{"mixup": {"alpha": {"low": 0.1, "high": 0.5}}}], "search": search})
    with pytest.raises(InputError, match=r"search\.objectives: 80 non-members over all targets resolve no"):
        study(wanted)
    assert study(wanted, plan__targets=3).space is wanted


def test_a_price_counts_what_is_attacked() -> None:
    nothing = Store("/nowhere-at-all")
    plain, attacked = price(study(), nothing), price(study(robustness__evaluations=["pgd20"]), nothing)
    assert (plain.evaluating_seconds, plain.models) == (0.0, attacked.models)
    assert 0 < attacked.evaluating_seconds < price(study(robustness__evaluations=["aa"]), nothing).evaluating_seconds
    assert any("to attack images" in line for line in attacked.lines())
    assert not any("attack" in line for line in plain.lines())


def test_a_search_by_optuna_is_priced_by_settings_drawn_at_random() -> None:
    entry = {"pgd_at": {"steps": 2, "epsilon": {"low": 0.01, "high": 0.1}}}
    found = price(study(space({"settings": [entry], "search": {"method": "optuna", "samples": 3}})), Store("/nowhere"))
    assert found.models == 4 * 2 * 2  # undefended and three, two targets, each with its shadow


def test_no_time_is_foretold_while_generators_are_to_be_trained() -> None:
    """A classifier's pace says nothing of theirs, whether the classifiers are done or not."""
    generated = space({"settings": [{"diffusion_mixup": {"subset": 0.2}}]})
    whole = study(generated, diffusion__batch_size=20)
    found = standing(whole, Store("/nowhere-at-all"))
    assert found.generators_left == 4  # two targets, their shadows
    counter, watcher = Counter(whole, 2, found), Watcher(Trials(), lambda trials, number: None)

    def left(generators: int, trained: int) -> float | None:
        tally = Tally(built={"models": trained, "generators": generators})
        return counter.progress(tally, Trials(), watcher).eta_seconds

    assert [left(*built) for built in ((0, 0), (0, 3), (2, 4), (3, 6))] == [None] * 4
    time.sleep(0.01)
    assert left(4, 7) is not None


def test_a_model_that_a_defense_cannot_train_is_refused_before_any_is_trained() -> None:
    """Adversarial examples of feature vectors, and a network that DP-SGD cannot see record by record."""
    flat = replace(FACTS, input_shape=(64,))
    crafted = space({"settings": [{"mixup": {"alpha": [0.1]}}, {"pgd_at": {"steps": 1}, "demem": {"strength": 0.2}}]})
    with pytest.raises(InputError, match="pgd_at: crafts adversarial images"):
        study(crafted, flat, model__name="mlp", model__options={})
    private = space({"settings": [{"dp_sgd": {"noise_multiplier": [0.5, 1.0]}}]})
    with pytest.raises(InputError, match="dp_sgd: in the network Coupled"):
        study(private, model__name="tests.study.test_standing:coupled", model__options={})
    before = torch.random.get_rng_state()
    assert study(private).settings[1].name == "dp_sgd"
    assert torch.equal(torch.random.get_rng_state(), before)


class Coupled(torch.nn.Module):
    """Answers to a record by the mean of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(inputs.flatten(1) - inputs.flatten(1).mean(dim=0))
        return logits


def coupled(input_shape: tuple[int, ...], classes: int) -> torch.nn.Module:
    return Coupled()
