from pathlib import Path

import pytest

from raymia.attacks import ATTACKS, DEFAULT_ATTACKS, STRONG_ATTACKS, Attack, attack_named, attack_names
from raymia.errors import InputError

PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Guess:
    name: ClassVar[str] = "guess"
    knowledge: ClassVar[str] = "nothing"
    needs: ClassVar[frozenset] = frozenset()
    def fit(self, view, rng): ...
    def score(self, state, block): ...

GUESS = Guess()

class GuessClass(Guess):
    name = "a_class"
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "guessing_attacks.py").write_text(PLUGIN)
    (tmp_path / "crashing_attacks.py").write_text("raise RuntimeError('no\\nluck')")
    info = tmp_path / "guessing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guessing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[raymia.attacks]\n"
        "guess = guessing_attacks:GUESS\n"
        "another_name = guessing_attacks:GUESS\n"
        "a_class = guessing_attacks:GuessClass\n"
        "a_text = guessing_attacks:PLUGIN\n"
        "crash = crashing_attacks:GUESS\n"
        "loss = guessing_attacks:GUESS\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_every_variant_is_there_under_its_name() -> None:
    rules = ("", "_per_example", "_fixed_residual", "_fixed_official", "_shrunk")
    liras = [f"lira_{form}{rule}" for form in ("online", "offline", "offline_two_sided") for rule in rules]
    assert list(ATTACKS) == [
        "loss",
        "entropy",
        "modified_entropy",
        "loss_per_class",
        "entropy_per_class",
        "modified_entropy_per_class",
        "nn_top3_posteriors",
        "nn_sorted_logits",
        *liras,
        "rmia",
        "rmia_offline",
        "rmia_ratio",
        "rmia_ratio_offline",
        "attack_r",
        "attack_p",
        "calibrated_loss",
        "calibrated_loss_offline",
        "quantile_regression",
        "label_only_gap",
        "label_only_augmentation",
        "gradient_norm",
    ]


def test_the_sets_of_attacks() -> None:
    assert DEFAULT_ATTACKS == ("loss", "entropy", "modified_entropy", "nn_sorted_logits")
    assert STRONG_ATTACKS == ("lira_online", "lira_offline", "rmia", "rmia_offline")
    assert set(DEFAULT_ATTACKS) | set(STRONG_ATTACKS) <= set(ATTACKS)


def test_every_attack_is_found_by_its_own_name() -> None:
    for name, attack in ATTACKS.items():
        assert isinstance(attack, Attack)
        assert attack.name == name
        assert attack_named(name) is attack
    assert set(ATTACKS) <= set(attack_names())


@pytest.mark.parametrize(
    ("name", "nearest"), [("los", "loss"), ("modified-entropy", "modified_entropy"), ("nn_top3", "nn_top3_posteriors")]
)
def test_an_unknown_attack_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"unknown attack '{name}'; did you mean .*{nearest}") as caught:
        attack_named(name)
    assert "\n" not in str(caught.value)


def test_an_attack_like_no_other_lists_them_all() -> None:
    with pytest.raises(InputError, match=r"choose from loss, entropy, .*gradient_norm"):
        attack_named("zzzzzz")


@pytest.mark.usefixtures("plugin")
def test_another_package_adds_an_attack() -> None:
    assert attack_named("guess").knowledge == "nothing"
    assert "guess" in attack_names()
    with pytest.raises(InputError, match="did you mean guess"):
        attack_named("guesss")


@pytest.mark.usefixtures("plugin")
def test_another_package_cannot_replace_a_built_in_attack() -> None:
    assert attack_named("loss") is ATTACKS["loss"]
    assert attack_names().count("loss") == 1


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("name", ["another_name", "a_class"])
def test_an_entry_point_that_gives_no_such_attack_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}.* is no attack of that name"):
        attack_named(name)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("name", ["crash", "a_text"])
def test_an_entry_point_that_cannot_be_loaded_is_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}.* cannot be loaded") as caught:
        attack_named(name)
    assert "\n" not in str(caught.value)
