"""Leakage by memorization of real studies, by the command, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raymia.commands import guarded
from raymia.memorization import memorization as memorization_command
from raymia.metrics.table import read_csv
from tests.study.command import TINY, Outcome, artifacts, assignments, tune, write_space

pytestmark = pytest.mark.slow

MINE = """\
import torch
from torch import nn

def train(images, labels, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


def memorization(folder: Path, *arguments: str, **options: Any) -> Outcome:
    return tune(list(arguments), folder, verb="memorization", **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of two settings, two targets and LiRA."""
    folder = tmp_path_factory.mktemp("memorization")
    write_space(folder / "tiny.yaml", "mixup: {alpha: [0.5]}")
    more = ("plan.part_size=60", "plan.references=16", "attacks=[loss,lira_offline]")
    outcome = tune(["--space", "tiny.yaml", "--name", "search", *assignments(*TINY, *more)], folder)
    assert outcome.code == 0, outcome
    return folder


@pytest.fixture(scope="module")
def outcome(place: Path) -> Outcome:
    found = memorization(place, "search", "--references", "16")
    assert found.code == 0, found
    return found


def test_records_are_scored_by_models_of_their_own(place: Path, outcome: Outcome) -> None:
    assert "16 undefended models for each set of scored records: 32 to train" in outcome.output
    scores: list[Any] = read_csv(place / "results" / "search" / "memorization_scores.csv")
    assert len(scores) == 2 * 120
    assert {row["target"] for row in scores} == {0, 1}
    for row in scores:
        assert (row["models_in"], row["models_out"]) == (8, 8)
        assert row["memorization"] == pytest.approx(row["right_in"] / 8 - row["right_out"] / 8)
    listed = (place / "results" / "search" / "memorization-artifacts.txt").read_text().split()
    assert len([name for name in listed if name.startswith("models/")]) == 32
    searched = (place / "results" / "search" / "artifacts.txt").read_text().split()
    assert not set(listed) & set(searched)


def test_a_row_for_each_setting_and_bin_adds_up_to_the_studys_table(place: Path, outcome: Outcome) -> None:
    folder = place / "results" / "search"
    rows: list[Any] = read_csv(folder / "memorization.csv")
    frontier: list[Any] = read_csv(folder / "frontier.csv")
    assert [(row["setting"], row["bin"]) for row in rows] == [
        (name, number) for name in ("none", "mixup alpha=0.5") for number in range(5)
    ]
    for setting in ("none", "mixup alpha=0.5"):
        own = [row for row in rows if row["setting"] == setting]
        worst = str(own[0]["attack"])
        [pooled] = [
            row for row in frontier if row["setting"] == setting and row["attack"] == worst and row["seed"] == "pooled"
        ]
        most = max(
            row["auc"]
            for row in frontier
            if row["setting"] == setting and row["seed"] == "pooled" and row["attack"] != "worst"
        )
        assert pooled["auc"] == most
        for kind, name, expected in (
            ("members", "tpr", "tpr_at_fpr_0.1"),
            ("members", "train_accuracy", "train_accuracy"),
            ("nonmembers", "test_accuracy", "test_accuracy"),
        ):
            whole = sum(row[kind] * row[name] for row in own if row[kind])
            assert sum(row[kind] for row in own) == 120
            assert whole / 120 == pytest.approx(pooled[expected])
    assert (folder / "memorization.png").stat().st_size > 20_000
    assert "(a) members caught at 10% false positives" in (folder / "memorization.svg").read_text()
    assert "Members caught (TPR, %) at 10% false positives, by memorization score" in outcome.output


def test_again_nothing_is_trained_and_more_references_only_add(place: Path, outcome: Outcome) -> None:
    folder = place / "results" / "search"
    before, page = artifacts(place / "results", "models"), (folder / "memorization.csv").read_bytes()
    again = memorization(place, "search", "--references", "16")
    assert (again.code, again.errors) == (0, "")
    assert "to train" not in again.output
    assert artifacts(place / "results", "models") == before
    assert (folder / "memorization.csv").read_bytes() == page
    named = memorization(place, "search", "--references", "16", "--attack", "loss", "--bins", "21", "--fpr", "0.2")
    assert named.code == 0, named
    rows = read_csv(folder / "memorization.csv")
    assert {(row["attack"], row["fpr"]) for row in rows} == {("loss", 0.2)}
    assert len(rows) == 2 * 21
    assert artifacts(place / "results", "models") == before
    more = memorization(place, "search", "--references", "32", "--quiet")
    assert more.code == 0, more
    assert "32 undefended models for each set of scored records: 32 to train" in more.output
    after = artifacts(place / "results", "models")
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 32


def test_the_models_are_spared_while_the_page_stands(place: Path, outcome: Outcome, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(place / "results", results)
    there = artifacts(results, "models")
    kept = tune(["--results", str(results), "--yes"], tmp_path, verb="clean")
    assert (kept.code, artifacts(results, "models").keys()) == (0, there.keys())
    (results / "search" / "memorization-artifacts.txt").unlink()
    tune(["--results", str(results), "--yes"], tmp_path, verb="clean")
    searched = (results / "search" / "artifacts.txt").read_text().split()
    assert artifacts(results, "models").keys() == {name for name in searched if name.startswith("models/")}
    assert len(artifacts(results, "models")) < len(there)


def test_training_of_the_users_own_with_targets_that_share_their_records(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    settings = assignments(*TINY, "plan.part_size=60", "plan.kind=shared", "attacks=[loss]")
    trained = tune(["--train", "mine:train", "--name", "own", *settings], tmp_path)
    assert trained.code == 0, trained
    found = memorization(tmp_path, "own", "--references", "16", script=True)
    assert found.code == 0, found
    assert "16 undefended models for each set of scored records: 16 to train" in found.output
    scores = read_csv(tmp_path / "results" / "own" / "memorization_scores.csv")
    assert len(scores) == 120
    assert {row["target"] for row in scores} == {None}
    rows: list[Any] = read_csv(tmp_path / "results" / "own" / "memorization.csv")
    assert {row["setting"] for row in rows} == {"none", "custom function=mine:train"}
    assert sum(row["members"] for row in rows if row["setting"] == "none") == 120


def without_scores(folder: Path) -> None:
    for path in (folder / "artifacts" / "scores").iterdir():
        path.unlink()


def without_answers(folder: Path) -> None:
    for path in (folder / "artifacts" / "signals").iterdir():
        path.write_bytes(path.read_bytes()[:-1])


def interrupted(folder: Path) -> None:
    record = folder / "search" / "study.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "interrupted"}))


def in_halves(folder: Path) -> None:
    config = folder / "search" / "config.yaml"
    text = config.read_text().replace("kind: quad", "kind: half").replace("- loss\n", "")
    config.write_text(text)


def untouched(folder: Path) -> None:
    """As the study left it."""


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (untouched, ["nothing"], "holds no study that can be read; give the folder of a finished one"),
        (interrupted, ["search"], "the study is not complete; finish it with the command that began it"),
        (untouched, ["search", "--attack", "rmia"], "--attack rmia: the study did not run it; choose from loss"),
        (
            untouched,
            ["search", "--attack", "loss/direct"],
            "--attack loss/direct: all members are looked at; give loss",
        ),
        (untouched, ["search", "--references", "24"], "--references 24: they come in blocks of 16; give 32"),
        (untouched, ["search", "--references", "0"], "--references 0: they come in blocks of 16; give 16"),
        (untouched, ["search", "--bins", "1"], "--bins 1: give 2 or more"),
        (untouched, ["search", "--fpr", "0"], "--fpr 0: give a fraction between 0 and 1"),
        (untouched, ["search", "--fpr", "0.01"], "120 non-members cannot resolve it; give --fpr 0.084 or more"),
        (untouched, ["search", "--results", ""], "--results: is empty; give a folder"),
        (without_scores, ["search"], "its scores are no longer there, or are of another version"),
        (without_answers, ["search"], "its scores are no longer there, or are of another version"),
        (in_halves, ["search"], "plan.kind: half has no records of a target's own"),
    ],
)
def test_bad_input_is_one_line_and_trains_nothing(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    arguments: list[str],
    message: str,
) -> None:
    results = tmp_path / "results"
    shutil.copytree(place / "results", results)
    change(results)
    before = artifacts(results, "models")
    asked = ["--results", str(results), *arguments]
    code = guarded(lambda: memorization_command.main(asked, standalone_mode=False))
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert message in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert artifacts(results, "models") == before
