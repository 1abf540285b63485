"""Whose scores the most exposed records are by, and what is offered where an attack was not run."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import raymia.study.exposure
from raymia.errors import InputError
from raymia.metrics.comparison import Scored
from raymia.recipes.scores import ScoresRecipe
from raymia.records import Records
from raymia.store import Store
from raymia.study.exposure import ExposedStudy, _explained, find_exposed, write_exposed
from raymia.study.scored import ScoredStudy
from tests.recipes.conftest import study_of

MIXED = {"diffusion_mixup": {"subset": 0.25, "threshold": 0.0, "labels": "condition"}}
SETTINGS = ("none", "mixup alpha=0.3")


@pytest.fixture
def scored_by_hand(digits: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished study of two settings, each with a worst attack of its own, and four records."""
    study = SimpleNamespace(title="made up", config=SimpleNamespace(plan=SimpleNamespace(targets=3)))
    worst = dict(zip(SETTINGS, ("lira_online", "loss"), strict=True))
    member = np.array([True, True, False, False])
    scores = Scored(np.arange(4), np.array([2.0, 0.0, 1.0, -1.0]), member)

    def read(folder: Path, attack: str | None) -> Any:
        attacks = {name: attack or own for name, own in worst.items()}
        return SimpleNamespace(
            study=study,
            records=digits,
            results=dict.fromkeys(SETTINGS),
            attacks=attacks,
            scores=lambda name: [scores],
            still_there=nullcontext,
        )

    monkeypatch.setattr(raymia.study.exposure, "read_scored", read)
    monkeypatch.setattr(raymia.study.exposure, "scored_by", lambda one, store: one)


def exposed(tmp_path: Path, attack: str | None) -> ExposedStudy:
    return find_exposed(tmp_path, Store(str(tmp_path)), attack)


@pytest.mark.usefixtures("scored_by_hand")
def test_the_attack_asked_for_is_named(tmp_path: Path) -> None:
    text = _explained(exposed(tmp_path, "nn_sorted_logits"))
    assert "those of 3 targets that trained on it, by nn sorted logits." in text
    assert "worst" not in text


@pytest.mark.usefixtures("scored_by_hand")
def test_where_none_was_asked_for_it_is_each_settings_worst(tmp_path: Path) -> None:
    text = _explained(exposed(tmp_path, None))
    assert "by the worst attack of each setting on all members." in text
    assert "lira" not in text


@pytest.mark.usefixtures("scored_by_hand")
def test_the_table_names_each_settings_attack_and_the_figure_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def figure(images: Any, captions: Any, title: str, explained: str) -> Any:
        said.append(explained)
        return None

    monkeypatch.setattr("raymia.report.exposed.exposed_figure", figure)
    monkeypatch.setattr("raymia.report.style.png_bytes", lambda drawn: b"a figure")
    for attack, columns in (
        (None, ["none (lira_online)", "mixup alpha=0.3 (loss)"]),
        ("entropy", ["none (entropy)", "mixup alpha=0.3 (entropy)"]),
    ):
        [csv, _] = write_exposed(exposed(tmp_path, attack), tmp_path, top=2)
        assert csv.read_text().splitlines()[0].split(",")[3:] == columns
    assert "by the worst attack of each setting" in said[0]
    assert "by entropy." in said[1]


# What a study of generated images did run.


def scored_study(digits: Records, attack: str) -> ScoredStudy:
    changes: dict[str, Any] = {
        "diffusion__channels": [8],
        "diffusion__attention": [],
        "diffusion__batch_size": 10,
        "diffusion__per_class": 3,
        "diffusion__precision": "fp32",
    }
    blueprint, settings = study_of(digits, MIXED, **changes)
    results = {setting.name: blueprint.result(setting) for setting in settings}
    nothing: Any = None
    return ScoredStudy(Path("nowhere"), nothing, nothing, digits, results, dict.fromkeys(results, attack))


@pytest.mark.parametrize("attack", ["lira_online", "denoising_loss/generator", "nearest_copy/generator"])
def test_what_was_not_run_on_members_is_refused_and_no_generator_attack_is_offered(
    digits: Records, attack: str
) -> None:
    study = scored_study(digits, attack)
    with pytest.raises(InputError) as caught:
        study.scores("diffusion_mixup")
    assert str(caught.value) == (
        f"--attack {attack}: the study did not run it; choose from loss, entropy, loss/direct, entropy/direct, "
        "loss/indirect, entropy/indirect"
    )
    with pytest.raises(InputError, match=r"choose from loss, entropy$"):
        study.scores("none")


@pytest.mark.parametrize("attack", ["loss", "entropy/indirect"])
def test_what_was_run_is_found_for_each_target(digits: Records, attack: str) -> None:
    study = scored_study(digits, attack)
    found = study.scores("diffusion_mixup")
    assert [one.measure for one in found] == [attack] * 2
    assert all(isinstance(one, ScoresRecipe) for one in found)
    assert len({one.key for one in found}) == 2
