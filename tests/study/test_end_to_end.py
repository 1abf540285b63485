"""One study of real models, and what every later command may reuse of it."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient

from raymia.config import build_config
from raymia.metrics.summary import rows
from raymia.metrics.table import read_csv, write_csv
from raymia.recipes.recipe import Recipe, walk
from raymia.records import load_records
from raymia.seeds import generator
from raymia.space_files import load_space
from raymia.store import Store
from raymia.study.facts import facts_of
from raymia.study.publish import read_measured
from raymia.study.study import Study, assemble
from raymia.yaml_files import parse_assignment
from tests.study.command import (
    REPOSITORY,
    TINY,
    Outcome,
    artifacts,
    assignments,
    flip,
    frontier,
    record_of,
    tune,
    words,
    write_space,
)

pytestmark = pytest.mark.slow

NO_RAY = "import sys\nsys.modules['ray'] = None\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_space(folder / "tiny.yaml", "mixup: {alpha: [0.5]}")
    # Where a command must not start Ray it cannot even import it.
    (folder / "without_ray").mkdir()
    (folder / "without_ray" / "sitecustomize.py").write_text(NO_RAY)
    return folder


@pytest.fixture(scope="module")
def base(place: Path) -> Outcome:
    """The study, run to its end. The tests of this file take turns on its results, and leave them whole."""
    outcome = tune(arguments(place), place)
    assert outcome.code == 0, outcome
    return outcome


@pytest.fixture(scope="module")
def table(place: Path, base: Outcome) -> bytes:
    return frontier(place / "results")


def arguments(place: Path, *more: str) -> list[str]:
    return ["--space", "tiny.yaml", "--results", "results", "--name", "tiny", *assignments(*TINY), *more]


def without_ray(place: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"{place / 'without_ray'}:{REPOSITORY}"}


@pytest.fixture
def copy(place: Path, base: Outcome, tmp_path: Path) -> Path:
    """A working folder with a copy of the finished study, to damage or add to."""
    shutil.copytree(place, tmp_path / "copy")
    return tmp_path / "copy"


def the_study(folder: Path) -> Study:
    """The study put together without the command."""
    config = build_config(None, dict(parse_assignment(text) for text in TINY))
    return assemble(config, load_space(str(folder / "tiny.yaml")), facts_of(load_records("digits")))


def one_of(recipes: Sequence[Recipe], kind: str) -> str:
    """An artifact of a kind."""
    return next(recipe.artifacts[0] for recipe in recipes if recipe.kind == kind)


def test_the_study_leaves_its_table_figures_record_and_gaps(place: Path, base: Outcome) -> None:
    folder = place / "results" / "tiny"
    for name in ("frontier.csv", "frontier.png", "frontier.svg", "generalization_gap.md", "study.json", "config.yaml"):
        assert (folder / name).stat().st_size > 100, name
    assert (folder / "frontier.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.glob("failure-*"))
    assert not (folder / "unsent.jsonl").exists()


def test_nothing_but_the_report_is_on_the_terminal(base: Outcome) -> None:
    assert base.errors == ""
    assert "Traceback" not in base.output
    for noise in ("(pid=", "(raylet)", "WARNING", "INFO", "alembic"):
        assert noise not in base.output
    assert "not distinguishable from undefended" in words(base.output)
    assert "table    " in base.output
    assert "frontier.csv" in base.output
    assert "mlflow ui --backend-store-uri sqlite:" in base.output


def test_the_table_has_a_row_a_setting_attack_and_seed_and_pooled_rows(place: Path, table: bytes) -> None:
    found = read_csv(place / "results" / "tiny" / "frontier.csv")
    where = {(row["setting"], row["attack"], row["seed"]) for row in found}
    settings = ("none", "mixup alpha=0.5")
    singles = {(setting, attack, seed) for setting in settings for attack in ("loss", "entropy") for seed in (0, 1)}
    pooled = {(setting, attack, "pooled") for setting in settings for attack in ("loss", "entropy", "worst")}
    assert where == singles | pooled
    assert len(found) == len(where)
    assert {
        "setting", "defense", "mixup.alpha", "seed", "train_accuracy", "test_accuracy", "generalization_gap", "attack",
        "auc", "auc_low", "auc_high", "interval_kind", "tpr_at_fpr_0.01", "on_frontier", "p_on_frontier",
    } <= found[0].keys()  # fmt: skip
    assert {row["mixup.alpha"] for row in found if row["defense"] == "mixup"} == {0.5}


def test_the_table_is_what_the_metrics_make_of_the_artifacts(
    place: Path, table: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    study = the_study(place)
    measured = read_measured([(one, study.result(one)) for one in study.settings], Store("results/artifacts"))
    write_csv(rows([one.result for one in measured], generator(0, "frontier")), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == table


def test_the_record_says_what_was_run_on_what_and_what_it_cost(place: Path, base: Outcome) -> None:
    record = record_of(place / "results")
    assert record["status"] == "complete"
    assert record["config"]["training"]["epochs"] == 2
    assert record["config"]["training"]["precision"] == "fp32"
    assert record["data"]["fingerprint"] == load_records("digits").fingerprint
    assert {"raymia", "torch", "ray", "mlflow"} <= record["versions"].keys()
    assert record["cost"]["models"] == 8
    assert 0 < record["cost"]["device_seconds"] < 8 * record["cost"]["wall_seconds"]
    assert record["failures"] == []


def test_mlflow_has_the_study_and_a_child_run_a_trial(place: Path, base: Outcome) -> None:
    client = MlflowClient(f"sqlite:///{place / 'results' / 'mlflow.db'}")
    [experiment] = [one for one in client.search_experiments() if one.name.startswith("raymia/")]
    runs = client.search_runs([experiment.experiment_id])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.info.run_name: run for run in runs if "mlflow.parentRunId" in run.data.tags}
    assert children.keys() == {"none", "mixup alpha=0.5"}
    pooled = {
        (row["setting"], row["attack"]): row
        for row in read_csv(place / "results" / "tiny" / "frontier.csv")
        if row["seed"] == "pooled"
    }
    for name, run in children.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == "FINISHED"
        assert run.data.metrics["attack/loss/auc"] == pooled[name, "loss"]["auc"]
        assert run.data.metrics["test_accuracy"] == pooled[name, "loss"]["test_accuracy"]
        assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 2
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["raymia.data"] == load_records("digits").fingerprint
    assert {"frontier.csv", "frontier.png", "study.json"} <= {
        one.path for one in client.list_artifacts(parent.info.run_id)
    }


def test_a_repeated_study_reuses_everything_without_ray(copy: Path, table: bytes) -> None:
    (copy / "results" / "tiny" / "frontier.csv").unlink()
    before = artifacts(copy / "results", "models")
    outcome = tune(arguments(copy), copy, environment=without_ray(copy))
    assert (outcome.code, outcome.errors) == (0, "")
    assert outcome.output.startswith("reusing 8 of 8 trained models from ")
    assert frontier(copy / "results") == table
    assert artifacts(copy / "results", "models") == before
    client = MlflowClient(f"sqlite:///{copy / 'results' / 'mlflow.db'}")
    [experiment] = [one for one in client.search_experiments() if one.name.startswith("raymia/")]
    assert len(client.search_runs([experiment.experiment_id])) == 3


def test_another_name_and_description_reuse_everything_without_ray(copy: Path, table: bytes) -> None:
    text = (copy / "tiny.yaml").read_text().replace("a test", "the same, described otherwise")
    (copy / "other.yaml").write_text(text)
    given = ["--space", "other.yaml", "--results", "results", "--name", "other", *assignments(*TINY)]
    outcome = tune(given, copy, environment=without_ray(copy))
    assert (outcome.code, outcome.errors) == (0, "")
    assert "reusing 8 of 8 trained models" in outcome.output
    assert (copy / "results" / "other" / "frontier.csv").read_bytes() == table


def test_more_targets_and_attacks_train_only_the_new_targets(copy: Path, table: bytes) -> None:
    before = artifacts(copy / "results", "models")
    more = ("plan.targets=3", "attacks=[loss,entropy,modified_entropy]")
    given = ["--space", "tiny.yaml", "--results", "results", "--name", "more", *assignments(*TINY, *more)]
    outcome = tune(given, copy)
    assert (outcome.code, outcome.errors) == (0, "")
    assert "reusing 8 of 12 trained models" in outcome.output
    after = artifacts(copy / "results", "models")
    assert {name: after[name] for name in before} == before
    assert len(after) == 12
    old = [row for row in read_csv(place_of(copy, "tiny")) if row["seed"] != "pooled"]
    new = {(row["setting"], row["attack"], row["seed"]): row for row in read_csv(place_of(copy, "more"))}
    assert [new[row["setting"], row["attack"], row["seed"]] for row in old] == old


def place_of(folder: Path, name: str) -> Path:
    return folder / "results" / name / "frontier.csv"


def test_damaged_artifacts_are_named_and_rebuilt(copy: Path, table: bytes) -> None:
    results = copy / "results"
    none, mixup = (list(walk([recipe])) for recipe in the_study(copy).recipes)
    # What an undamaged result or score rests on is looked at too.
    spoiled = [one_of(none, "models"), one_of(none, "scores"), one_of(mixup, "signals"), one_of(mixup, "results")]
    whole = {name: (results / "artifacts" / name).read_bytes() for name in spoiled}
    for name in spoiled:
        flip(results / "artifacts" / name)
    outcome = tune(arguments(copy), copy)
    assert (outcome.code, outcome.errors) == (0, "")
    for name in spoiled:
        assert outcome.output.count(name) == 1, outcome.output
    assert "reusing 7 of 8 trained models" in outcome.output
    assert frontier(results) == table
    for name in spoiled:
        assert Store(str(results / "artifacts")).read(name)[0] == _payload(whole[name])


def _payload(artifact: bytes) -> bytes:
    return artifact.partition(b"\n")[2]


def test_a_fresh_run_makes_everything_anew_and_gets_the_same(copy: Path, table: bytes) -> None:
    kinds = ("models", "signals", "scores", "results")
    before = {kind: artifacts(copy / "results", kind) for kind in kinds}
    outcome = tune(arguments(copy, "--fresh"), copy)
    assert (outcome.code, outcome.errors) == (0, "")
    assert "reusing" not in outcome.output
    assert frontier(copy / "results") == table
    for kind in kinds:
        after = artifacts(copy / "results", kind)
        assert after.keys() == before[kind].keys()
        assert all(after[name] > before[kind][name] for name in after), kind


def test_two_commands_do_not_work_on_one_study(copy: Path) -> None:
    from raymia.study.lock import held

    shutil.rmtree(copy / "results" / "artifacts")
    before = sorted(copy.rglob("*"))
    with held(copy / "results" / "tiny"):
        outcome = tune(arguments(copy), copy, environment=without_ray(copy))
    assert outcome.code == 2
    assert outcome.errors.startswith("raymia: ")
    assert "another raymia is working on this study" in outcome.errors
    assert len(outcome.errors.splitlines()) == 1
    assert sorted(copy.rglob("*")) == before


def test_the_record_of_another_study_is_refused_with_the_setting_that_differs(copy: Path) -> None:
    record = (copy / "results" / "tiny" / "study.json").read_text()
    outcome = tune(arguments(copy, *assignments("training.learning_rate=0.01")), copy, environment=without_ray(copy))
    assert outcome.code == 2
    assert "training.learning_rate is 0.05 there, 0.01 here" in outcome.errors
    assert "--name tiny" in outcome.errors
    assert len(outcome.errors.splitlines()) == 1
    assert (copy / "results" / "tiny" / "study.json").read_text() == record
    assert json.loads(record)["status"] == "complete"
