"""The main command on a cluster of two nodes, with an MLflow server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import marked
from tests.support.mlflow_ui import mlflow_server
from tests.support.ray_nodes import nodes
from tests.support.small_study import command, frontier, run

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the models leave the ids of the nodes that train them."""
    folder = tmp_path_factory.mktemp("trained_on")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(marked.FOLDER, str(folder))
        yield folder


@pytest.fixture(scope="module")
def address(trained_on: Path) -> Iterator[str]:
    """Two nodes with one CPU each."""
    with nodes({"num_cpus": 1}, {"num_cpus": 1}) as where:
        yield where


def test_both_nodes_train_and_the_server_has_the_runs(address: str, trained_on: Path, tmp_path: Path) -> None:
    with mlflow_server(tmp_path / "mlflow") as server:
        more = ["--address", address, "--tracking-uri", server.uri, "--model", "tests.cluster.marked:model"]
        done = run(command(tmp_path, *more, targets=2))
        assert done.returncode == 0, done.stdout + done.stderr
        runs = _runs(server.uri)
    assert len(list(trained_on.iterdir())) == 2
    rows = frontier(tmp_path)
    assert {row["setting"] for row in rows} == {"none", "mixup alpha=0.3"}
    pooled = {row["setting"]: float(row["auc"]) for row in rows if row["attack"] == "loss" and row["seed"] == "pooled"}
    assert runs.keys() == {"study", *pooled}
    for setting, auc in pooled.items():
        assert runs[setting]["attack/loss/auc"] == pytest.approx(auc, abs=1e-6)
    assert not (tmp_path / "results/mlflow.db").exists()


def test_a_database_of_one_machine_is_refused(address: str, tmp_path: Path) -> None:
    done = run(command(tmp_path, "--address", address))
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "the cluster has 2 nodes: start an MLflow server (deploy/mlflow-server.sh)" in line
    assert not (tmp_path / "results").exists()


def _runs(uri: str) -> dict[str, dict[str, float]]:
    """The metrics of every run, by the run's name."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_name: run.data.metrics for run in client.search_runs(experiments)}
