"""Spaces: which settings they hold, and what is refused before anything trains."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from raymia.errors import InputError
from raymia.space import UNDEFENDED, Range, Space, custom_space, with_search
from raymia.space_files import list_spaces, load_space, parse_space
from raymia.yaml_files import configs_folder

SWEEPS = {
    "mixup_alpha": ("mixup.alpha", [0.1, 0.2, 0.3, 0.4, 0.5]),
    "label_smoothing": ("label_smoothing.epsilon", [0.1, 0.2, 0.3, 0.4, 0.5]),
    # The paper's epochs 25, 50, 75, 100, 125 of 200.
    "early_stopping": ("early_stopping.fraction", [stop / 200 for stop in (25, 50, 75, 100, 125)]),
    "relaxloss_alpha": ("relaxloss.alpha", [0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 1.5, 2.0]),
    "dropout": ("dropout.rate", [0.1, 0.2, 0.3, 0.4, 0.5]),
}


def space_of(*entries: Any, **search: Any) -> Space:
    return parse_space({"settings": list(entries), "search": search}, Path("own.yaml"))


def refusal(*entries: Any, **search: Any) -> str:
    with pytest.raises(InputError) as caught:
        space_of(*entries, **search)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def values(space: Space, name: str, seed: int = 0) -> list[Any]:
    return [setting.hyperparameters[name] for setting in space.settings(seed)[1:]]


@pytest.mark.parametrize("space", SWEEPS)
def test_a_built_in_space_is_the_papers_sweep_after_the_undefended_model(space: str) -> None:
    name, sweep = SWEEPS[space]
    loaded = load_space(space)
    assert loaded.settings(0)[0] is UNDEFENDED
    assert values(loaded, name) == sweep
    assert loaded.description


def test_the_space_of_all_is_every_sweep() -> None:
    settings = load_space("all").settings(0)
    counts = Counter(setting.name for setting in settings)
    assert counts == {"none": 1} | {name.partition(".")[0]: len(sweep) for name, sweep in SWEEPS.values()}
    singles = {setting for space in SWEEPS for setting in load_space(space).settings(0)}
    assert set(settings) == singles


def test_every_built_in_space_is_listed_with_a_line() -> None:
    listed = list_spaces()
    assert {space.name for space in listed} == {path.stem for path in configs_folder().glob("*.yaml")}
    assert set(SWEEPS) | {"all"} <= {space.name for space in listed}
    assert all(space.description and "\n" not in space.description for space in listed)


def test_a_grid_is_every_combination_in_the_order_written() -> None:
    space = space_of({"relaxloss": {"alpha": [1, 2], "variant": ["paper", "cifar_code"]}})
    labels = [setting.label for setting in space.settings(0)]
    assert labels == [
        "none",
        "relaxloss alpha=1 variant=paper",
        "relaxloss alpha=1",
        "relaxloss alpha=2 variant=paper",
        "relaxloss alpha=2",
    ]


def test_undefended_is_first_and_once_wherever_it_is_written() -> None:
    space = space_of({"mixup": {"alpha": [0.1, 0.1, 0.2]}}, {"none": None}, {"mixup": {"alpha": 0.2}})
    assert [setting.label for setting in space.settings(0)] == ["none", "mixup alpha=0.1", "mixup alpha=0.2"]


def test_composed_defenses_keep_the_order_written() -> None:
    [_, setting] = space_of({"label_smoothing": {"epsilon": 0.2}, "mixup": {"alpha": 1}}).settings(0)
    assert setting.name == "label_smoothing+mixup"
    assert setting.label == "label_smoothing epsilon=0.2 + mixup alpha=1"
    assert setting.hyperparameters == {
        "label_smoothing.epsilon": 0.2,
        "label_smoothing.form": "paper",
        "mixup.alpha": 1.0,
    }
    assert [type(part).__name__ for part in setting.defense.parts] == ["LabelSmoothing", "Mixup"]


def test_a_random_search_repeats_with_its_seed_and_only_then() -> None:
    space = space_of({"mixup": {"alpha": {"low": 0.1, "high": 1}}}, method="random", samples=6)
    drawn = values(space, "mixup.alpha", seed=3)
    assert values(space, "mixup.alpha", seed=3) == drawn
    assert not set(drawn) & set(values(space, "mixup.alpha", seed=4))
    assert len(drawn) == 6


def test_a_longer_random_search_begins_like_a_shorter_one() -> None:
    space = space_of({"mixup": {"alpha": {"low": 0.1, "high": 1}}}, method="random", samples=8)
    assert with_search(space, None, 3).settings(0) == space.settings(0)[:4]


def test_random_values_stay_in_range_and_reach_all_of_it() -> None:
    space = space_of(
        {"mixup": {"alpha": {"low": 0.01, "high": 1, "log": True}}},
        {"none": None},
        {"label_smoothing": {"epsilon": {"low": 0.2, "high": 0.4}, "form": ["paper", "torch"]}},
        method="random",
        samples=400,
    )
    settings = space.settings(0)[1:]
    alphas = [one.hyperparameters["mixup.alpha"] for one in settings if one.name == "mixup"]
    smoothed = [one.hyperparameters for one in settings if one.name == "label_smoothing"]
    epsilons = [one["label_smoothing.epsilon"] for one in smoothed]
    assert len(alphas) + len(smoothed) == 400
    assert len(alphas) == pytest.approx(200, abs=40)
    assert 0.01 <= min(alphas) < 0.02
    assert 0.8 < max(alphas) <= 1
    assert sum(alpha < 0.1 for alpha in alphas) == pytest.approx(len(alphas) / 2, abs=30)  # even in the logarithm
    assert 0.2 <= min(epsilons) < 0.21
    assert 0.39 < max(epsilons) <= 0.4
    assert sum(epsilon < 0.3 for epsilon in epsilons) == pytest.approx(len(epsilons) / 2, abs=30)
    assert {one["label_smoothing.form"] for one in smoothed} == {"paper", "torch"}


def test_a_ranges_ends_are_its_own() -> None:
    for kind in (Range(low=0.1, high=10), Range(low=0.1, high=10, log=True)):
        assert kind.at(0) == pytest.approx(0.1)
        assert kind.at(1) == pytest.approx(10)
    assert Range(low=0.1, high=10, log=True).at(0.5) == pytest.approx(1)
    assert Range(low=0, high=10).at(0.5) == 5


def test_optuna_knows_only_the_undefended_setting_beforehand() -> None:
    space = space_of({"mixup": {"alpha": {"low": 0.1, "high": 1}}}, method="optuna")
    assert space.settings(0) == [UNDEFENDED]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"mixup": {"alpha": -1}}, "mixup.alpha: input should be greater than 0, got -1"),
        ({"mixup": {"alpha": [0.1, 0.2, -1]}}, "mixup.alpha: input should be greater than 0, got -1"),
        ({"mixup": {"alpha": float("inf")}}, "mixup.alpha: must be a finite number, got inf"),
        ({"mixup": {"alpha": float("nan")}}, "mixup.alpha: input should be greater than 0, got nan"),
        ({"mixup": {"alpha": {"low": 0, "high": 1}}}, "mixup.alpha: input should be greater than 0, got 0.0"),
        ({"dropout": {"rate": {"low": 0.5, "high": 1.5}}}, "dropout.rate: input should be less than 1, got 1.5"),
        ({"dropout": {"rate": 1}}, "dropout.rate: input should be less than 1, got 1"),
        ({"dropout": {"rate": "much"}}, "dropout.rate: input should be a valid number"),
        ({"label_smoothing": {"epsilon": [0.1], "form": ["torch", "tf"]}}, "label_smoothing.form: input should be"),
        ({"early_stopping": {"fraction": [0.5, 0]}}, "early_stopping.fraction: input should be greater than 0, got 0"),
        ({"relaxloss": {"alpha": 1, "upper": 0}}, "relaxloss.upper: input should be greater than 0"),
        ({"relaxloss": {"alpha": -0.1}}, "relaxloss.alpha: input should be greater than or equal to 0"),
        ({"mixup": None}, "mixup.alpha: is missing"),
        ({"mixup": {"alpa": 1}}, "unknown hyperparameter mixup.alpa: did you mean 'alpha'?"),
        ({"none": {"alpha": 1}}, "unknown hyperparameter none.alpha: it has none"),
        ({"mixpu": {"alpha": 1}}, "unknown defense 'mixpu': did you mean 'mixup'?"),
        ({"mixup": 0.3}, "mixup: give a mapping of hyperparameters, got 0.3"),
        ({"mixup": {"alpha": []}}, "mixup.alpha: the list of values is empty"),
        ({"mixup": {"alpha": {"low": 1, "high": 0.1}}}, "mixup.alpha: a range is {low: , high: , log: }: low must be"),
        ({"mixup": {"alpha": {"low": 0, "high": 1, "log": True}}}, "above 0 with log"),
        ({"mixup": {"alpha": {"low": 1}}}, "mixup.alpha: a range is {low: , high: , log: }: Field required"),
        ({"early_stopping": {"fraction": {"low": 0.1, "high": 1}}}, "early_stopping.fraction: give a list of values"),
        ({"none": None, "mixup": {"alpha": 1}}, "none stands alone; take it out of none + mixup"),
        ({"custom": {"function": "a:b"}, "mixup": {"alpha": 1}}, "custom stands alone; take it out of custom + mixup"),
        ("mixup", "each of settings is a mapping from defense to hyperparameters, got 'mixup'"),
    ],
)
def test_a_bad_entry_is_refused_when_the_space_is_read(entry: Any, why: str) -> None:
    assert why in refusal({"mixup": {"alpha": 0.5}}, entry)


@pytest.mark.parametrize(
    ("search", "why"),
    [
        ({"method": "randm"}, "search.method: "),
        ({"samples": 0}, "search.samples: "),
        ({"batch": 0}, "search.batch: "),
        ({"sample": 3}, "search.sample: "),
    ],
)
def test_a_bad_search_is_named(search: dict[str, Any], why: str) -> None:
    assert why in refusal({"mixup": {"alpha": 1}}, **search)


@pytest.mark.parametrize("settings", [None, [], {"mixup": {"alpha": 1}}])
def test_a_space_needs_a_list_of_settings(settings: object) -> None:
    with pytest.raises(InputError, match=r"own\.yaml: settings must be a list of defenses"):
        parse_space({"settings": settings}, Path("own.yaml"))


def test_an_unknown_key_of_a_space_is_named() -> None:
    with pytest.raises(InputError, match=r"own\.yaml: unknown key 'setings': known are"):
        parse_space({"setings": []}, Path("own.yaml"))


def test_a_search_needs_something_to_search_over() -> None:
    assert "a random search needs a defense besides none" in refusal({"none": None}, method="random")
    with pytest.raises(InputError, match="no defense to search over"):
        with_search(space_of({"none": None}), "optuna", None)


def test_a_grid_over_a_range_is_refused_with_the_remedy() -> None:
    space = space_of({"mixup": {"alpha": {"low": 0.1, "high": 1}}}, method="random")
    with pytest.raises(InputError, match=r"mixup\.alpha: a grid needs a list of values.*search\.method"):
        with_search(space, "grid", None)


def test_another_search_leaves_the_rest_of_the_space() -> None:
    space = load_space("mixup_alpha")
    changed = with_search(space, "random", 2)
    assert (changed.search.method, changed.search.samples) == ("random", 2)
    assert changed.branches == space.branches
    assert with_search(space, None, None) == space


def test_a_space_is_found_by_path_and_an_unknown_one_by_its_near_match(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("settings:\n  - mixup: {alpha: 1}\n")
    assert [one.label for one in load_space(str(path)).settings(0)] == ["none", "mixup alpha=1"]
    with pytest.raises(InputError, match="unknown space 'mixup_alfa': did you mean 'mixup_alpha'"):
        load_space("mixup_alfa")


def test_stop_epochs_are_gathered_by_what_the_training_depends_on() -> None:
    undefended = frozenset[str]()
    assert load_space("mixup_alpha").stop_epochs(200) == {undefended: {200}, frozenset({"mixup"}): {200}}
    assert load_space("early_stopping").stop_epochs(200) == {undefended: {25, 50, 75, 100, 125, 200}}
    composed = space_of(
        {"mixup": {"alpha": [0.1, 0.2]}, "early_stopping": {"fraction": [0.25, 0.5]}}, {"dropout": {"rate": 0.5}}
    )
    assert composed.stop_epochs(8) == {undefended: {8}, frozenset({"mixup"}): {2, 4}, frozenset({"dropout"}): {8}}


def test_the_built_in_spaces_that_need_a_reserve() -> None:
    needing = {space.name for space in list_spaces() if space.needs_reserve}
    assert needing == {"adversarial_regularization", "defenses", "dmp", "memguard"}


@pytest.mark.parametrize(
    ("entry", "needs"),
    [
        ({"dmp": {"keep": 0.5}}, True),
        ({"dmp": {"source": "generated", "keep": {"low": 0.1, "high": 1}}}, False),
        ({"dmp": {"source": ["generated", "reserve"]}}, True),
        ({"mixup": {"alpha": 1}, "memguard": {"budget": 0.5}}, True),
        ({"mixup": {"alpha": 1}}, False),
    ],
)
def test_a_reserve_is_needed_where_some_setting_wants_one(entry: dict[str, Any], needs: bool) -> None:
    method = "random" if isinstance(entry.get("dmp", {}).get("keep"), dict) else "grid"
    assert space_of({"label_smoothing": {"epsilon": 0.1}}, entry, method=method).needs_reserve == needs


def test_one_setting_of_each_defense_stands_beside_a_line_of_dp_sgd() -> None:
    names = [setting.name for setting in load_space("defenses").settings(0)]
    assert names.count("dp_sgd") >= 3
    heuristics = [name for name in names if name != "dp_sgd"]
    assert len(heuristics) == len(set(heuristics))
    assert set(names) >= {
        *("none", "mixup", "label_smoothing", "early_stopping", "relaxloss", "dropout", "confidence_penalty"),
        *("adversarial_regularization", "distillation", "dmp", "memguard", "hamp", "selena"),
    }


def test_the_users_own_training_is_compared_with_the_undefended_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_training_of_a_space.py").write_text("def fit(images, labels, seed): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = custom_space("own_training_of_a_space:fit").settings(0)
    assert [one.label for one in settings] == ["none", "custom function=own_training_of_a_space:fit"]
    with pytest.raises(InputError, match="train 'no_such_module_of_a_space:fit'"):
        custom_space("no_such_module_of_a_space:fit")


def robust(evaluations: Any, **search: Any) -> Space:
    content = {"settings": [{"mixup": {"alpha": [0.1]}}], "robustness": evaluations, "search": search}
    return parse_space(content, Path("own.yaml"))


def test_a_space_says_which_robust_accuracies_it_is_about() -> None:
    assert robust(["aa"]).evaluations == {"aa"}
    by_search = {"method": "optuna", "objectives": ["test_accuracy", "robust_accuracy_pgd20", "worst_tpr"]}
    assert robust([], **by_search).evaluations == {"pgd20"}
    assert robust(["aa"], **by_search).evaluations == {"pgd20", "aa"}
    # What nobody searches by is not measured for it.
    assert robust([], **(by_search | {"method": "grid"})).evaluations == set()
    assert load_space("robust_frontier").evaluations == {"pgd20"}
    assert with_search(load_space("robust_frontier"), "random", 3).evaluations == {"pgd20"}


@pytest.mark.parametrize("evaluations", ["pgd20", ["pgd"], {"aa": 1}, [1]])
def test_unknown_evaluations_of_a_space_are_named(evaluations: Any) -> None:
    with pytest.raises(InputError, match=r"own\.yaml: robustness is a list out of pgd20, aa, got"):
        robust(evaluations)


@pytest.mark.parametrize("objectives", [["test_accuracy"], ["test_accuracy", "auc"], []])
def test_bad_objectives_are_named(objectives: list[str]) -> None:
    assert "search.objectives" in refusal({"mixup": {"alpha": [0.1]}}, method="optuna", objectives=objectives)
