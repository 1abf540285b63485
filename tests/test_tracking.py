"""Studies in a real MLflow: an SQLite database."""

import contextlib
import math
import shutil
import sqlite3
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from raymia.outbox import Spool
from raymia.tracking import StudyRecord, Tracker, default_tracking_uri
from raymia.tracking_records import VERIFIES_TAG
from tests.support.tracked import EXPERIMENT, STUDY, Logged, expected_points, log, trial

# mlflow 3.17 with SQLAlchemy 2.1 (November 2026).
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Creating MLflow's tables takes 3 s: once, then copied."""
    folder = tmp_path_factory.mktemp("empty")
    with warnings.catch_warnings():
        # Marks do not reach fixtures of a module.
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
        assert log(default_tracking_uri(folder), folder / "spool", study=StudyRecord("empty", "empty")) == []
    return folder / "mlflow.db"


@pytest.fixture
def uri(tmp_path: Path, empty_database: Path) -> str:
    """A database with MLflow's tables and none of our runs."""
    target = tmp_path / "results" / "mlflow.db"
    target.parent.mkdir()
    shutil.copy(empty_database, target)
    with contextlib.closing(sqlite3.connect(target)) as copy:
        for table in ("params", "tags", "metrics", "latest_metrics", "runs", "experiment_tags", "experiments"):
            copy.execute(f"DELETE FROM {table}")
        copy.commit()
    return default_tracking_uri(tmp_path / "results")


def test_a_study_is_a_parent_run_and_its_trials_are_children(uri: str, tmp_path: Path) -> None:
    figure = tmp_path / "roc.png"
    figure.write_bytes(b"png")
    table = tmp_path / "frontier.csv"
    table.write_text("setting\n")
    first = trial(0.1, figures={"roc of attack/loss": figure})
    with Tracker.open(uri, EXPERIMENT, STUDY, tmp_path / "spool") as tracker:
        tracker.trial(first)
        tracker.trial(trial(0.3, status="failed", error="diverged at epoch 3"))
        tracker.study_finished({"worst_attack_auc": 0.53}, [table])
    assert tracker.warnings == []
    assert not (tmp_path / "spool").exists()

    logged = Logged(uri)
    (parent,) = logged.parents
    assert (parent.info.run_name, parent.info.status) == (STUDY.name, "FINISHED")
    assert parent.data.tags["raymia.key"] == "study0"
    assert parent.data.tags["data"] == "f00d"
    assert parent.data.params == {"space": "mixup_alpha", "seed": "0"}
    assert parent.data.metrics == {"worst_attack_auc": 0.53}
    assert logged.files(parent) == ["config.yaml", "frontier.csv"]
    assert parent.info.end_time >= parent.info.start_time
    assert (tmp_path / "results" / "mlartifacts" / parent.info.run_id / "artifacts" / "config.yaml").read_text() == (
        STUDY.config_yaml
    )

    assert sorted(logged.trials) == ["mixup alpha=0.1", "mixup alpha=0.3"]
    good, bad = logged.trials["mixup alpha=0.1"], logged.trials["mixup alpha=0.3"]
    assert {run.data.tags["mlflow.parentRunId"] for run in (good, bad)} == {parent.info.run_id}
    assert good.data.params == {"alpha": "0.1"}
    assert logged.points(good) == expected_points(first)
    assert logged.files(good, "figures") == ["figures/roc of attack_loss.png"]
    assert (good.info.status, good.info.start_time, good.info.end_time) == ("FINISHED", 10**12, 10**12 + 60_000)
    assert (bad.info.status, bad.data.tags["raymia.error"]) == ("FAILED", "diverged at epoch 3")


def test_a_resumed_study_reuses_its_runs_and_repeats_no_point(uri: str, tmp_path: Path) -> None:
    assert log(uri, tmp_path / "spool", trial(0.1), trial(0.3), finish=False) == []
    before = Logged(uri)
    longer = trial(0.3, curves={"train_loss": [(epoch, 1 / epoch) for epoch in range(1, 9)]}, name="mixup 0.3")
    assert log(uri, tmp_path / "spool", trial(0.1), longer, trial(0.5)) == []
    after = Logged(uri)
    assert after.run_count == before.run_count + 1
    assert after.parents[0].info.run_id == before.parents[0].info.run_id
    assert after.points(after.trials["mixup alpha=0.1"]) == expected_points(trial(0.1))
    assert after.trials["mixup 0.3"].info.run_id == before.trials["mixup alpha=0.3"].info.run_id
    assert after.points(after.trials["mixup 0.3"]) == expected_points(longer)


def test_the_same_setting_in_two_studies_has_a_run_in_each(uri: str, tmp_path: Path) -> None:
    other = StudyRecord("study1", "all on digits")
    assert log(uri, tmp_path / "spool", trial(0.1)) == log(uri, tmp_path / "spool1", trial(0.1), study=other) == []
    logged = Logged(uri)
    assert len(logged.parents) == 2
    assert logged.run_count == 4


def test_a_verification_is_a_child_of_the_study_it_verifies(uri: str, tmp_path: Path) -> None:
    verification = replace(STUDY, key="fresh0", name="verification", tags={VERIFIES_TAG: STUDY.key})
    stray = replace(STUDY, key="stray0", name="of another machine's", tags={VERIFIES_TAG: "nowhere"})
    for study in (STUDY, verification, stray):
        assert log(uri, tmp_path / f"{study.key}.jsonl", trial(0.1), study=study) == []
    logged = {run.info.run_name: run for run in Logged(uri).parents}
    assert logged["verification"].data.tags["mlflow.parentRunId"] == logged[STUDY.name].info.run_id
    assert "mlflow.parentRunId" not in logged["of another machine's"].data.tags
    # Run again, neither takes the other's trials for its own.
    for study in (STUDY, verification):
        assert log(uri, tmp_path / f"{study.key}.jsonl", trial(0.1), study=study) == []
    assert Logged(uri).run_count == 6


def test_a_trial_that_succeeds_on_its_second_try_is_one_finished_run(uri: str, tmp_path: Path) -> None:
    failed = trial(0.1, status="failed", error="worker died", metrics={}, curves={})
    assert log(uri, tmp_path / "spool", failed, trial(0.1)) == []
    logged = Logged(uri)
    (run,) = logged.trials.values()
    assert run.info.status == "FINISHED"
    assert "raymia.error" not in run.data.tags
    assert logged.points(run) == expected_points(trial(0.1))


def test_a_changed_parameter_keeps_its_first_value_and_is_told(uri: str, tmp_path: Path) -> None:
    log(uri, tmp_path / "spool", trial(0.1))
    told = log(uri, tmp_path / "spool", trial(0.1, params={"alpha": 0.2, "new": "x" * 7000}))
    assert told == ["MLflow keeps 'alpha' of 'mixup alpha=0.1' at 0.1, it is now 0.2"]
    params = Logged(uri).trials["mixup alpha=0.1"].data.params
    assert (params["alpha"], params["new"]) == ("0.1", "x" * 6000)


def test_more_points_parameters_and_numbers_than_one_call_takes(uri: str, tmp_path: Path) -> None:
    big = trial(
        0.1,
        params={f"p{i}": i for i in range(230)},
        tags={f"t{i}": str(i) for i in range(130)},
        metrics={"diverged": math.nan, "endless": math.inf},
        curves={"loss": [(step, step / 7) for step in range(2500)], "late": [(0, 1.0), (1, math.nan)]},
    )
    assert log(uri, tmp_path / "spool", big) == []
    assert log(uri, tmp_path / "spool", trial(**{**vars(big), "alpha": 0.1, "tags": {"t0": "again"}})) == []
    logged = Logged(uri)
    (run,) = logged.trials.values()
    assert len(run.data.params) == 230
    assert run.data.tags["t129"] == "129"
    assert run.data.tags["t0"] == "again"
    points = logged.points(run)
    assert len(points) == 2500 + 2 + 1 + 1
    assert math.isnan(run.data.metrics["diverged"])
    assert sum(math.isnan(value) for _, _, value in points) == 2


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")])
def test_a_study_that_ends_early_says_so_and_runs_again_later(
    uri: str, tmp_path: Path, error: type[BaseException], status: str
) -> None:
    def interrupted() -> None:
        with Tracker.open(uri, EXPERIMENT, STUDY, tmp_path / "spool") as tracker:
            tracker.trial(trial(0.1))
            while Spool(tmp_path / "spool").read():
                time.sleep(0.05)
            raise error

    with pytest.raises(error):
        interrupted()
    assert Logged(uri).parents[0].info.status == status
    log(uri, tmp_path / "spool", finish=False)
    assert Logged(uri).parents[0].info.status == "RUNNING"


def test_a_missing_figure_is_told_and_stops_nothing(uri: str, tmp_path: Path) -> None:
    told = log(uri, tmp_path / "spool", trial(0.1, figures={"roc": tmp_path / "gone.png"}))
    assert told == [f"{tmp_path / 'gone.png'} is gone: not logged to MLflow"]
    assert Logged(uri).trials["mixup alpha=0.1"].info.status == "FINISHED"


def test_a_record_that_mlflow_refuses_is_kept_and_stops_no_other(uri: str, tmp_path: Path) -> None:
    bad = trial(0.1, metrics={"no*such*name": 1.0})
    (warning,) = log(uri, tmp_path / "spool", bad, trial(0.3))
    assert "1 record kept in" in warning
    assert "no*such*name" in warning
    logged = Logged(uri)
    assert logged.points(logged.trials["mixup alpha=0.3"]) == expected_points(trial(0.3))
    assert logged.parents[0].info.status == "FINISHED"
    assert [line["entry"]["key"] for line in Spool(tmp_path / "spool").read()] == ["key0.1"]


def test_a_deleted_experiment_is_told_and_nothing_is_lost(uri: str, tmp_path: Path) -> None:
    log(uri, tmp_path / "spool")
    logged = Logged(uri)
    logged.client.delete_experiment(logged.experiment.experiment_id)
    (warning,) = log(uri, tmp_path / "spool", trial(0.1))
    assert f"experiment '{EXPERIMENT}' is deleted: restore it there): 2 records kept" in warning
    logged.client.restore_experiment(logged.experiment.experiment_id)
    assert log(uri, tmp_path / "spool") == []
    assert list(Logged(uri).trials) == ["mixup alpha=0.1"]


def test_a_database_of_an_older_mlflow_is_told_and_nothing_is_lost(uri: str, tmp_path: Path) -> None:
    def set_version(version: str) -> str:
        with contextlib.closing(sqlite3.connect(tmp_path / "results" / "mlflow.db")) as database:
            (before,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
            database.execute("UPDATE alembic_version SET version_num = ?", (version,))
            database.commit()
        return str(before)

    newest = set_version("75868b020152")
    (warning,) = log(uri, tmp_path / "spool", trial(0.1))
    assert "'mlflow db upgrade <database_uri>'" in warning
    assert "2 records kept in" in warning
    set_version(newest)
    assert log(uri, tmp_path / "spool") == []
    assert list(Logged(uri).trials) == ["mixup alpha=0.1"]


def test_a_name_is_a_metric_or_a_curve() -> None:
    with pytest.raises(ValueError, match="test_accuracy"):
        trial(0.1, curves={"test_accuracy": [(1, 0.5)]})


def test_a_relative_database_stays_where_it_was_named(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = Tracker.open("sqlite:///results/mlflow.db", EXPERIMENT, STUDY, tmp_path / "spool")
    monkeypatch.chdir("/")
    tracker.trial(trial(0.1))
    tracker.close()
    assert list(Logged(uri).trials) == ["mixup alpha=0.1"]
