"""A study verified and its most exposed records listed, by the commands."""

import csv
import json
from pathlib import Path

import pytest

from tests.study.command import TINY, Outcome, artifacts, assignments, tune, words, write_space

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of three settings."""
    folder = tmp_path_factory.mktemp("verify")
    write_space(folder / "tiny.yaml", "mixup: {alpha: [0.2, 0.5]}")
    outcome = tune(["--space", "tiny.yaml", "--name", "search", *assignments(*TINY)], folder)
    assert outcome.code == 0, outcome
    return folder


@pytest.fixture(scope="module")
def verified(place: Path) -> Outcome:
    outcome = tune(["search"], place, verb="verify")
    assert outcome.code == 0, outcome
    return outcome


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_verification_trains_anew_under_the_strong_attacks(place: Path, verified: Outcome) -> None:
    folder = place / "results" / "search-verification"
    record = json.loads((folder / "study.json").read_text())
    assert record["status"] == "complete"
    assert record["config"]["plan"]["references"] == 16
    # 2 targets of 4 x 40 records leave enough of 1,797 that the search did not touch.
    assert record["config"]["plan"]["apart_from"] == {"seed": 0, "targets": 2}
    assert record["config"]["seed"] != 0
    found = {row["attack"] for row in rows(folder / "frontier.csv")}
    assert found == {"loss", "entropy", "lira_online", "lira_offline", "rmia", "rmia_offline", "worst"}
    assert record["cost"]["models"] > 17 * 2


def test_optimism_and_gap_are_written_and_shown(place: Path, verified: Outcome) -> None:
    folder = place / "results" / "search-verification"
    table = rows(folder / "verification.csv")
    searched = {
        row["setting"]: row for row in rows(place / "results" / "search" / "frontier.csv") if row["attack"] == "worst"
    }
    assert "none" in {row["setting"] for row in table}
    for row in table:
        assert row["records"] == "on records that the search did not use"
        assert float(row["searched_auc"]) == pytest.approx(float(searched[row["setting"]]["auc"]))
        assert float(row["optimism"]) == pytest.approx(float(row["weak_auc"]) - float(row["searched_auc"]))
        assert float(row["gap_low"]) <= float(row["gap"]) <= float(row["gap_high"])
        assert row["weak_attack"] in ("loss", "entropy")
    page = (folder / "verification.md").read_text()
    assert all(row["setting"] in page for row in table)
    shown = words(verified.output)
    assert "Verification" in shown
    assert "attack gap" in shown
    assert "on records that the search did not use" in shown


def test_a_verification_leaves_the_search_alone_and_resumes(place: Path, verified: Outcome) -> None:
    before = artifacts(place / "results", "models")
    again = tune(["search"], place, verb="verify")
    assert again.code == 0
    assert "reusing" in again.output
    assert artifacts(place / "results", "models") == before


def test_exposed_records_are_listed_with_pictures(place: Path, verified: Outcome) -> None:
    outcome = tune(["search", "--top", "7"], place, verb="exposed")
    assert outcome.code == 0, outcome
    table = rows(place / "results" / "search" / "exposed_records.csv")
    column = next(name for name in table[0] if name.startswith("none ("))
    caught = [float(row[column]) for row in table if row[column]]
    assert caught == sorted(caught)
    assert len({row["id"] for row in table}) == len(table) > 40
    assert caught[0] == pytest.approx(1 / 41)
    assert (place / "results" / "search" / "exposed_records.png").stat().st_size > 5000
    strong = tune(["search-verification", "--attack", "lira_online"], place, verb="exposed")
    assert strong.code == 0
    names = list(rows(place / "results" / "search-verification" / "exposed_records.csv")[0])
    assert all("(lira_online)" in name for name in names[3:])


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("verify", ["nothing"], "holds no study that can be read"),
        ("verify", ["search", "--references", "20"], "--references 20: they come in blocks of 16; give 32"),
        ("exposed", ["nothing"], "holds no study that can be read"),
        ("exposed", ["search", "--attack", "rmia"], "--attack rmia: the study did not run it; choose from loss"),
    ],
)
def test_what_cannot_be_verified_is_one_line(place: Path, verb: str, arguments: list[str], message: str) -> None:
    outcome = tune(arguments, place, verb=verb)
    assert outcome.code == 2
    assert message in outcome.errors
    assert len(outcome.errors.strip().splitlines()) == 1


def test_a_study_that_was_not_finished_is_not_verified(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "half"
    folder.mkdir(parents=True)
    record = json.loads((place / "results" / "search" / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(record | {"status": "interrupted"}))
    outcome = tune(["half"], tmp_path, verb="verify")
    assert outcome.code == 2
    assert "is not complete; finish it with the command that began it" in outcome.errors
