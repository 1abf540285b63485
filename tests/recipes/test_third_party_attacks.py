"""Scores of attacks that another package brings are named by its source, whatever the models are asked."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from raymia.attacks import ATTACKS, attack_named, without_queries
from raymia.metrics.populations import ALL
from raymia.recipes.recipe import Bench, make
from raymia.recipes.scores import ScoresRecipe, Witness
from raymia.recipes.signals import SignalsRecipe
from raymia.recipes.witnesses import Witnesses
from raymia.records import Records
from tests.recipes.conftest import ground_of
from tests.recipes.test_scores import Untrained, exposure_of

SOURCE = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np

@dataclass(frozen=True)
class Guess:
    sharpness: float = 1.0
    name: ClassVar[str] = "guess"
    knowledge: ClassVar[str] = "nothing"
    needs: ClassVar[frozenset] = frozenset()
    def fit(self, view, rng):
        return None
    def score(self, state, block):
        return np.asarray(block.logits_NQC[:, 0].max(axis=1), dtype=np.float64)

class Bare:
    # No dataclass.
    name = "bare"
    knowledge = "nothing"
    needs = frozenset()
    def __init__(self, sharpness=1.0):
        self.sharpness = sharpness
    def fit(self, view, rng):
        return None
    def score(self, state, block):
        return np.asarray(self.sharpness * block.logits_NQC[:, 0].max(axis=1), dtype=np.float64)

GUESS = Guess(SHARPNESS)
BARE = Bare()
"""

MODULE = "named_attacks_of_a_test"
Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes the other package anew."""
    monkeypatch.syspath_prepend(str(tmp_path))
    info = tmp_path / "named_attacks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: named-attacks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[raymia.attacks]\nguess = {MODULE}:GUESS\nbare = {MODULE}:BARE\n")

    def write_module(sharpness: float = 1.0, source: str = SOURCE) -> None:
        (tmp_path / f"{MODULE}.py").write_text(source.replace("SHARPNESS", str(sharpness)))
        sys.modules.pop(MODULE, None)
        importlib.invalidate_caches()

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    write_module()
    yield write_module
    sys.modules.pop(MODULE, None)


def scores_of(digits: Records, attack: str) -> ScoresRecipe:
    ground, positions = ground_of(digits), np.arange(60)
    exposure = exposure_of(positions < 30)

    def witness(*stream: str | int) -> Witness:
        return Witness(SignalsRecipe(Untrained(ground, stream, positions[:30]), 0, positions), exposure)

    return Witnesses(witness("target", 0), witness("shadow", 0), (), ()).scores(attack_named(attack), ALL)


@pytest.mark.parametrize("attack", ["guess", "guess_adversarial", "bare", "bare_adversarial"])
def test_another_source_names_other_scores(digits: Records, write: Write, attack: str) -> None:
    before = scores_of(digits, attack).key
    assert scores_of(digits, attack).key == before
    write(source=SOURCE + "\n# another version\n")
    assert scores_of(digits, attack).key != before
    write()
    assert scores_of(digits, attack).key == before


@pytest.mark.parametrize("attack", ["guess", "guess_adversarial"])
def test_other_hyperparameters_name_other_scores(
    digits: Records, write: Write, attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By themselves: a package may give its object another value without its source being another."""
    monkeypatch.setattr("raymia.recipes.scores.foreign_digest", lambda kind: kind.__name__)
    before = scores_of(digits, attack).key
    write(sharpness=2.0)
    assert without_queries(attack_named(attack)).sharpness == 2  # type: ignore[attr-defined]
    assert scores_of(digits, attack).key != before


@pytest.mark.usefixtures("write")
def test_every_attack_has_a_name_of_its_own_with_either_queries(digits: Records) -> None:
    names = ["guess", "bare", "loss", "entropy", "nn_sorted_logits"]
    keys = [scores_of(digits, f"{name}{suffix}").key for name in names for suffix in ("", "_adversarial")]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", ["loss", "lira_offline", "rmia", "nn_top3_posteriors"])
def test_an_attack_of_raymias_own_goes_by_versions_alone(
    digits: Records, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[type] = []

    def digest(kind: type) -> str:
        asked.append(kind)
        return ""

    monkeypatch.setattr("raymia.recipes.scores.foreign_digest", digest)
    attack = attack_named(f"{name}_adversarial")
    assert without_queries(attack) is ATTACKS[name]
    assert without_queries(ATTACKS[name]) is ATTACKS[name]
    assert scores_of(digits, name).key != scores_of(digits, f"{name}_adversarial").key
    assert asked == [type(ATTACKS[name])] * 2


@pytest.mark.parametrize("attack", ["guess", "bare"])
@pytest.mark.usefixtures("write")
def test_the_scores_are_made_and_kept_under_that_name(digits: Records, bench: Bench, attack: str) -> None:
    recipe = scores_of(digits, attack)
    make(recipe, bench)
    scores, member = recipe.scores(bench.store)
    assert np.isfinite(scores).all()
    assert member.sum() == 30
    assert recipe.artifacts == (f"scores/{recipe.key}",)
