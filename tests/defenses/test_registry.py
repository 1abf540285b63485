"""Defenses by name, and what another package's must be."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from raymia.defenses import Mixup, RelaxLoss, build_defense, defense_named
from raymia.errors import InputError
from raymia.training.defense import Defense, Stage

PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar
from raymia.training.defense import Defense, Stage

@dataclass(frozen=True)
class Penalized(Defense):
    strength: float
    repeats: int = 1
    name = "penalized"
    stages = {"strength": Stage.TRAIN, "repeats": Stage.TRAIN}
    def __post_init__(self):
        if self.strength < 0:
            raise ValueError("strength must\\nnot be negative")

@dataclass(frozen=True)
class Unstaged(Penalized):
    name = "unstaged"
    stages = {"strength": Stage.TRAIN}

@dataclass
class Thawed(Defense):
    name = "thawed"

class Plain(Defense):
    name = "plain"

@dataclass(frozen=True)
class Nameless(Defense):
    pass

@dataclass(frozen=True)
class Foreign:
    name = "foreign"

@dataclass(frozen=True)
class MyMixup(Defense):
    name = "mixup"
"""

POINTS = {
    "penalized": "defenses_of_a_test:Penalized",
    "renamed": "defenses_of_a_test:Penalized",
    "unstaged": "defenses_of_a_test:Unstaged",
    "thawed": "defenses_of_a_test:Thawed",
    "plain": "defenses_of_a_test:Plain",
    "nameless": "defenses_of_a_test:Nameless",
    "foreign": "defenses_of_a_test:Foreign",
    "a_text": "defenses_of_a_test:__name__",
    "gone": "defenses_of_a_test:Gone",
    "crash": "crashing_defenses_of_a_test:Penalized",
    "mixup": "defenses_of_a_test:MyMixup",
}


NAMES = (
    *("none", "mixup", "label_smoothing", "early_stopping", "relaxloss", "dropout", "diffusion_mixup", "dp_sgd"),
    *("confidence_penalty", "adversarial_regularization", "distillation", "dmp", "memguard", "hamp", "selena"),
    *("pgd_at", "trades", "mart", "awp", "trades_awp", "demem"),
    "custom",
)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "defenses_of_a_test.py").write_text(PLUGIN)
    (tmp_path / "crashing_defenses_of_a_test.py").write_text("raise RuntimeError('no\\nluck')")
    info = tmp_path / "defenses_of_a_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: defenses-of-a-test\nVersion: 1.0\n")
    points = "\n".join(f"{name} = {value}" for name, value in POINTS.items())
    (info / "entry_points.txt").write_text(f"[raymia.defenses]\n{points}\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def refusal(name: str, **hyperparameters: Any) -> str:
    with pytest.raises(InputError) as caught:
        build_defense(name, hyperparameters)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_built_in_defense_says_the_stage_of_each_hyperparameter() -> None:
    for name in NAMES:
        defense = defense_named(name)
        assert defense.name == name
        assert set(defense.stages) == {field.name for field in fields(defense)}  # type: ignore[arg-type]
        assert all(isinstance(stage, Stage) for stage in defense.stages.values())
        assert defense.__doc__


def test_only_defenses_that_couple_no_samples_say_so() -> None:
    claimed = {name for name in NAMES if defense_named(name).per_sample}
    assert claimed == {
        *("none", "label_smoothing", "early_stopping", "dropout", "confidence_penalty", "hamp", "dp_sgd"),
        "pgd_at",
    }


def test_equal_hyperparameters_are_equal_defenses() -> None:
    assert build_defense("mixup", {"alpha": 1}) == Mixup(alpha=1.0)
    assert hash(build_defense("relaxloss", {"alpha": 1})) == hash(RelaxLoss(alpha=1.0))
    assert build_defense("relaxloss", {"alpha": 1}) != build_defense("relaxloss", {"alpha": 1, "variant": "paper"})


@pytest.mark.usefixtures("plugin")
def test_another_package_adds_a_defense() -> None:
    defense = build_defense("penalized", {"strength": 0.5})
    assert isinstance(defense, Defense)
    assert (defense.strength, defense.repeats) == (0.5, 1)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("plugin")
def test_a_built_in_defense_cannot_be_replaced() -> None:
    assert defense_named("mixup") is Mixup


@pytest.mark.usefixtures("plugin")
def test_an_unknown_defense_names_other_packages_too() -> None:
    assert "did you mean 'penalized'" in refusal("penalised")


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("name", ["renamed", "thawed", "plain", "nameless", "foreign", "a_text"])
def test_what_is_no_defense_of_its_name_is_refused(name: str) -> None:
    message = refusal(name)
    assert f"defense {name!r} (defenses_of_a_test:" in message
    assert "must give a frozen dataclass" in message


@pytest.mark.usefixtures("plugin")
def test_a_hyperparameter_without_a_stage_is_refused() -> None:
    assert "does not say which stage 'repeats' belongs to" in refusal("unstaged", strength=1)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(("name", "why"), [("crash", "no luck"), ("gone", "has no attribute 'Gone'")])
def test_a_package_that_cannot_be_loaded_is_named(name: str, why: str) -> None:
    message = refusal(name)
    assert f"defense {name!r}" in message
    assert "cannot be loaded, repair or uninstall its package" in message
    assert why in message


@pytest.mark.usefixtures("plugin")
def test_a_plain_dataclass_refuses_in_one_line() -> None:
    assert refusal("penalized", strength=-1) == "penalized: strength must not be negative"
    assert "missing 1 required positional argument: 'strength'" in refusal("penalized")
    assert refusal("penalized", strength=float("nan")) == "penalized.strength: must be a finite number, got nan"
    assert "unknown hyperparameter penalized.strenght: did you mean 'strength'" in refusal("penalized", strenght=1)


def test_a_defense_that_does_nothing_needs_nothing() -> None:
    @dataclass(frozen=True)
    class Nothing(Defense):
        name = "nothing"

    assert Nothing().select(10) == 10
    assert Nothing().sole == frozenset()
