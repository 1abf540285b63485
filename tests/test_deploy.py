"""The files of deploy/: taken by Ray's own validator, and an MLflow server that really starts."""

import copy
import importlib
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from raymia.config import EngineConfig
from raymia.engine.cluster import Cluster, check_resources
from tests.support.mlflow_ui import free_port, wait_until_healthy

DEPLOY = Path(__file__).parents[1] / "deploy"
SERVER = DEPLOY / "mlflow-server.sh"
CLUSTERS = ("ray-cluster.yaml", "ray-cluster-local.yaml")


def cluster(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return config


def validated(config: dict[str, Any]) -> dict[str, Any]:
    """What `ray up` makes of a configuration before it asks any machine."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_takes_the_cluster(name: str) -> None:
    prepared = validated(cluster(name))
    assert prepared["cluster_name"] == "raymia"
    assert prepared["max_workers"] >= 1
    workers = [kind for kind in prepared["available_node_types"] if kind != prepared["head_node_type"]]
    assert workers or name == "ray-cluster-local.yaml"


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_refuses_an_unknown_key(name: str) -> None:
    refusal = importlib.import_module("jsonschema").ValidationError  # it has no type stubs
    with pytest.raises(refusal, match="head_startt_ray_commands"):
        validated({**cluster(name), "head_startt_ray_commands": []})


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_node_asks_for_the_token_and_the_dashboard_stays_on_loopback(name: str) -> None:
    config = cluster(name)
    starts = [
        command
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in config[key]
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ray start" in command for command in starts)
    assert [("--dashboard-host=127.0.0.1" in command) for command in starts] == [True, False]
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


# Of the instance types that the file names: Ray asks AWS for them, which no test does.
VCPUS = {"m7a.xlarge": 4, "m7a.4xlarge": 16}


def test_a_study_finds_cpus_before_the_cluster_has_grown() -> None:
    config = cluster("ray-cluster.yaml")
    cpus = sum(
        (1 if name == config["head_node_type"] else kind.get("min_workers", 0))
        * kind["resources"].get("CPU", VCPUS[kind["node_config"]["InstanceType"]])
        for name, kind in config["available_node_types"].items()
    )
    check_resources(EngineConfig(), Cluster(("alive",), ((cpus, 0),), joined=True))


def test_the_image_is_the_ray_that_raymia_requires() -> None:
    import tomllib

    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    (ray,) = (line for line in project["dependencies"] if line.startswith("ray["))
    minor = re.search(r"==(\d+\.\d+)\.\*", ray)
    image = re.search(r":(\d+\.\d+)\.\d+-py(\d)(\d+)-", cluster("ray-cluster.yaml")["docker"]["image"])
    assert minor is not None
    assert image is not None
    assert image[1] == minor[1]
    assert f">={image[2]}.{image[3]}" in project["requires-python"]


def start_server(tmp_path: Path, port: int, **extra: str) -> "subprocess.Popen[bytes]":
    settings = {
        "PYTHON": sys.executable,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/server.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(tmp_path / "artifacts"),
        "MLFLOW_SERVER_PORT": str(port),
        "MLFLOW_SERVER_NAME": "mlflow.example",
    }
    with (tmp_path / "log").open("wb") as log:
        return subprocess.Popen(
            [str(SERVER), "--workers", "1"],
            env=os.environ | settings | extra,
            stdout=log,
            stderr=log,
            cwd=tmp_path,
        )


def status(url: str, host: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_server_starts_and_answers_to_its_names_only(tmp_path: Path) -> None:
    port = free_port()
    process = start_server(tmp_path, port)
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}", process, tmp_path / "log")
        search = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
        assert status(search, f"127.0.0.1:{port}") == 200
        assert status(search, f"mlflow.example:{port}") == 200
        assert status(search, f"evil.example:{port}") == 403
        assert status(search, "mlflow.example") == 403
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("missing", ["MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"])
def test_the_server_says_what_is_not_set(tmp_path: Path, missing: str) -> None:
    process = start_server(tmp_path, free_port(), **{missing: ""})
    assert process.wait(30) != 0
    assert f"{missing}: set it to" in (tmp_path / "log").read_text()


def test_shellcheck_has_nothing_to_say() -> None:
    program = shutil.which("shellcheck")
    assert program, "install shellcheck (`make test` does)"
    done = subprocess.run([program, *map(str, DEPLOY.glob("*.sh"))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_page_names_files_that_exist_and_flags_that_ray_knows() -> None:
    page = (DEPLOY / "README.md").read_text()
    for name in set(re.findall(r"deploy/([\w.-]+\.(?:yaml|sh))", page)) | {SERVER.name, *CLUSTERS}:
        assert (DEPLOY / name).is_file(), name
        assert name in page
    known = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (submit,) = re.findall(r"ray job submit (.*?) -- python", page.replace("\\\n", " "), re.DOTALL)
    flags = re.findall(r"--[\w-]+", submit)
    assert "--submission-id" in flags
    assert [flag for flag in flags if flag not in known] == []
