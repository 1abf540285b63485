"""Settings that fail: named, tried again where that may help, kept, and never in the way of the others."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from raymia.metrics.table import read_csv
from tests.study.command import (
    TINY,
    artifacts,
    assignments,
    record_of,
    study_folder,
    tune,
    words,
    write_space,
)

pytestmark = pytest.mark.slow

BROKEN = """
from pathlib import Path

import torch


def broken(images, labels, seed):
    with (Path(__file__).parent / "calls.txt").open("a") as calls:
        calls.write(f"{seed}\\n")
    raise ValueError("the user's own mistake")


def linear(images, labels, seed):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), torch.from_numpy(labels)).backward()
        optimizer.step()
    return model
"""


def test_a_diverging_study_says_at_which_epoch_and_is_not_tried_again(tmp_path: Path) -> None:
    write_space(tmp_path / "tiny.yaml", "mixup: {alpha: [0.5]}")
    given = ["--space", "tiny.yaml", "--results", "results", *assignments(*TINY, "training.learning_rate=1e30")]
    outcome = tune(given, tmp_path)
    assert outcome.code == 1
    assert len(outcome.errors.splitlines()) == 1
    assert outcome.errors.startswith("raymia: no setting could be measured: none: training diverged at epoch ")
    folder = study_folder(tmp_path / "results")
    for number in (0, 1):
        story = (folder / f"failure-{number}.txt").read_text()
        assert story.count("training diverged at epoch ") == 1
        assert "try 2" not in story
    assert record_of(tmp_path / "results")["status"] == "failed"
    assert [setting for setting, _ in record_of(tmp_path / "results")["failures"]] == ["none", "mixup alpha=0.5"]
    assert artifacts(tmp_path / "results", "models") == {}


def test_the_users_failing_training_is_tried_twice_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text(BROKEN)
    given = ["--train", "recipe:broken", "--results", "results", *assignments(*TINY, "plan.targets=1")]
    outcome = tune(given, tmp_path)
    assert outcome.code == 1
    assert outcome.errors == ""
    calls = (tmp_path / "calls.txt").read_text().split()
    assert len(calls) == 4
    assert len(set(calls)) == 2, "target and shadow, each called twice"
    assert "Failed settings (1)" in outcome.output
    assert "the user's own mistake" in words(outcome.output)
    folder = study_folder(tmp_path / "results")
    [kept] = folder.glob("failure-*.txt")
    story = kept.read_text()
    assert "try 2" in story
    assert "recipe.py" in story, "the traceback leads to the user's line"
    assert "\x1b" not in story
    assert {row["setting"] for row in read_csv(folder / "frontier.csv")} == {"none"}
    record = record_of(tmp_path / "results")
    assert record["status"] == "complete"
    assert len(record["failures"]) == 1
    client = MlflowClient(f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}")
    [experiment] = [one for one in client.search_experiments() if one.name.startswith("raymia/")]
    statuses = {run.info.run_name: run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert sorted(statuses.values()) == ["FAILED", "FINISHED", "FINISHED"]


def test_the_users_training_by_script_and_module_comes_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text(BROKEN)
    given = ["--train", "recipe:linear", "--results", "results", *assignments(*TINY)]
    module = tune(given, tmp_path)
    assert (module.code, module.errors) == (0, "")
    table = (study_folder(tmp_path / "results") / "frontier.csv").read_bytes()
    settings = {row["setting"] for row in read_csv(study_folder(tmp_path / "results") / "frontier.csv")}
    assert settings == {"none", "custom function=recipe:linear"}
    assert len(artifacts(tmp_path / "results", "answers")) == 4
    script = tune(
        ["--results", "others", *(one for one in given if one not in ("--results", "results"))], tmp_path, script=True
    )
    assert (script.code, script.errors) == (0, "")
    assert (study_folder(tmp_path / "others") / "frontier.csv").read_bytes() == table
