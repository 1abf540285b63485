"""Privacy, accuracy and robustness in one study, by the command: searched by all three, shown in every table."""

import csv
import json
from pathlib import Path

import pytest

from tests.study.command import TINY, Outcome, assignments, tune, words, write_space

pytestmark = pytest.mark.slow

SEARCH = (
    "robustness: [aa]\n"
    "search:\n"
    "  method: optuna\n"
    "  samples: 2\n"
    "  batch: 2\n"
    "  objectives: [test_accuracy, robust_accuracy_pgd20, worst_auc]\n"
)
SMALL = (*TINY, "attacks=[loss,loss_adversarial]", "robustness.images=12", "robustness.epsilon=0.1")
NAMES = ("robust_accuracy_pgd20", "robust_accuracy_aa")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("robust")
    write_space(folder / "tiny.yaml", "pgd_at: {epsilon: {low: 0.01, high: 0.1}, steps: 2}", more=SEARCH)
    return folder


@pytest.fixture(scope="module")
def searched(place: Path) -> Outcome:
    outcome = tune(["--space", "tiny.yaml", "--name", "robust", *assignments(*SMALL)], place)
    assert outcome.code == 0, outcome
    return outcome


def rows(place: Path) -> list[dict[str, str]]:
    with (place / "results" / "robust" / "frontier.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_every_row_has_what_its_setting_withstands(place: Path, searched: Outcome) -> None:
    table = rows(place)
    assert len({row["setting"] for row in table}) == 3
    for row in table:
        for name in NAMES:
            low, value, high = (float(row[f"{name}{end}"]) for end in ("_low", "", "_high"))
            assert 0 <= low <= value <= high <= 1
        # One image of twelve: AutoAttack and PGD start from draws of their own.
        assert float(row["robust_accuracy_aa"]) <= float(row["robust_accuracy_pgd20"]) + 1 / 12 + 1e-9
        assert int(row["robust_images"]) == (24 if row["seed"] == "pooled" else 12)
    worst = [row for row in table if row["attack"] == "worst"]
    assert any(row["on_robust_frontier"] == "true" for row in worst)
    assert {row["attack"] for row in table} == {"loss", "loss_adversarial", "worst"}


def test_it_is_shown_and_kept(place: Path, searched: Outcome) -> None:
    folder = place / "results" / "robust"
    shown = words(searched.output)
    assert "Test accuracy and robust accuracy against the worst attack" in shown
    assert "Robust accuracy: against ℓ∞ ε 0.1 of pixels in [0, 1]" in shown
    assert "robust_frontier.png" in shown
    assert (folder / "robust_frontier.png").stat().st_size > 10_000
    record = json.loads((folder / "study.json").read_text())
    # What the space is about and what its search goes by are both measured.
    assert record["config"]["robustness"]["evaluations"] == ["pgd20", "aa"]
    assert record["robustness"][0].startswith("Robust accuracy: against")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{place / 'results' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("raymia/digits")
    trials = [run for run in client.search_runs([experiment.experiment_id]) if run.data.tags["raymia.kind"] == "trial"]
    pooled = {row["setting"]: row for row in rows(place) if row["attack"] == "worst"}
    assert len(trials) == 3
    for run in trials:
        for name in NAMES:
            assert run.data.metrics[name] == pytest.approx(float(pooled[run.info.run_name][name]))


def test_a_repeated_search_proposes_the_same_and_trains_nothing(place: Path, searched: Outcome) -> None:
    before = rows(place)
    again = tune(["--space", "tiny.yaml", "--name", "robust", *assignments(*SMALL)], place)
    assert again.code == 0, again
    assert rows(place) == before
    assert "reusing 12 of 12 trained models" in words(again.output)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["robustness.evaluations=[pgd]"], "robustness.evaluations.0"),
        (["robustness.epsilon=0"], "robustness.epsilon"),
        (["attacks=[gradient_norm_adversarial]"], "leave out gradient_norm_adversarial"),
        (["robustness.images=3"], "robustness.images"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(place: Path, changes: list[str], said: str) -> None:
    refused = tune(["--space", "tiny.yaml", "--name", "no", *assignments(*SMALL, *changes)], place)
    assert refused.code == 2, refused
    assert said in refused.errors
    assert refused.errors.count("\n") == 1
    assert not (place / "results" / "no").exists()
