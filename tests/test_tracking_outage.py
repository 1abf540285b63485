"""Studies in an MLflow that is killed, comes back, or never answers."""

import contextlib
import socket
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from raymia.errors import InputError
from raymia.outbox import Spool
from raymia.tracking import StudyRecord, Tracker, check_tracking_uri, default_tracking_uri
from tests.support.mlflow_ui import MLflowServer, free_port, mlflow_server
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[MLflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def test_a_killed_server_loses_nothing_and_gets_nothing_twice(server: MLflowServer, tmp_path: Path) -> None:
    study = StudyRecord("killed", "a study through an outage")
    spool = tmp_path / "spool"
    records = [trial(alpha / 10) for alpha in range(1, 7)]
    with Tracker.open(server.uri, EXPERIMENT, study, spool) as tracker:
        for record in records[:2]:
            tracker.trial(record)
        while len(Spool(spool).read()) == 2:
            time.sleep(0.01)
        server.kill()  # in the middle of the second trial, or after it
        for record in records[2:4]:
            tracker.trial(record)
    (warning,) = tracker.warnings
    assert "kept in" in warning
    assert "\n" not in warning

    server.start()
    assert log(server.uri, spool, *records[2:], study=study) == []
    assert not spool.exists()
    logged = Logged(server.uri)
    assert sorted(logged.trials) == [record.name for record in records]
    assert logged.run_count == 7
    for record in records:
        run = logged.trials[record.name]
        assert logged.points(run) == expected_points(record)
        assert run.info.status == "FINISHED"
    assert logged.parents[0].info.status == "FINISHED"
    assert logged.files(logged.parents[0]) == ["config.yaml"]


def test_a_server_that_swallows_requests_does_not_hold_the_study(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}"
        tracker = Tracker.open(address, EXPERIMENT, STUDY, tmp_path / "spool")
        tracker.trial(trial(0.1))
        began = time.monotonic()
        tracker.close(patience=1)
        assert time.monotonic() - began < 20
    (warning,) = tracker.warnings
    assert "1 record kept in" in warning
    assert "secret" not in warning


PROGRAM = """
import sys
from pathlib import Path
from raymia.tracking import StudyRecord, Tracker, TrialRecord, check_tracking_uri, default_tracking_uri
assert "mlflow" not in sys.modules
here = Path(sys.argv[1])
dead = "http://127.0.0.1:9"
for uri in (default_tracking_uri(here / "with space"), dead):
    with Tracker.open(uri, "e", StudyRecord("k", "s"), here / "spool") as tracker:
        tracker.trial(TrialRecord("t", "t", metrics={"a": 1.0}))
        tracker.study_finished({})
    assert bool(tracker.warnings) == (uri == dead), tracker.warnings
"""


def test_a_new_database_survives_a_kill_and_nothing_is_printed(tmp_path: Path) -> None:
    (tmp_path / "cwd").mkdir()
    results = tmp_path / "with space"
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, cwd=tmp_path / "cwd") as killed:
        while not any(file.stat().st_size for file in results.glob(".mlflow-*/mlflow.db")):
            assert killed.poll() is None
            time.sleep(0.01)
        killed.kill()
    assert not (results / "mlflow.db").exists()
    assert len(Spool(tmp_path / "spool").read()) == 2

    done = subprocess.run(command, capture_output=True, cwd=tmp_path / "cwd", check=False, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list((tmp_path / "cwd").iterdir()) == []
    assert (results / "mlartifacts").is_dir()
    with contextlib.closing(sqlite3.connect(results / "mlflow.db")) as database:
        assert database.execute("SELECT name, status FROM runs ORDER BY name").fetchall() == [
            ("s", "FINISHED"),
            ("t", "FINISHED"),
        ]


def test_a_server_is_asked_before_anything_trains(server: MLflowServer) -> None:
    check_tracking_uri(server.uri, nodes=3)
    for address in (f"http://127.0.0.1:{free_port()}", f"{server.uri}/no/such/prefix"):
        with pytest.raises(InputError, match=r"does not answer as an MLflow server: start one \(deploy/README.md\)"):
            check_tracking_uri(address, nodes=1)


def test_a_server_that_does_not_know_its_name_is_told_apart(
    server: MLflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
    with pytest.raises(InputError, match=f"--allowed-hosts mlflow.example:{server.port}"):
        check_tracking_uri(f"http://mlflow.example:{server.port}", nodes=1)
