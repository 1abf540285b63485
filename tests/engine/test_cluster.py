"""What Ray is asked for is checked before anything waits for it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from raymia.config import EngineConfig
from raymia.engine import cluster as engine_cluster
from raymia.engine import precision
from raymia.engine.cluster import Cluster, check_nodes, check_resources, started
from raymia.errors import InputError
from raymia.store import Store
from tests.support import small_study
from tests.support.mlflow_ui import free_port
from tests.support.ray_nodes import alive, descendants, end, nodes, wait_until_gone


def _cluster(*shapes: tuple[float, float]) -> Cluster:
    return Cluster(nodes=tuple(str(number) for number in range(len(shapes))), shapes=shapes, joined=True)


@pytest.mark.parametrize(
    ("engine", "shapes", "complaint"),
    [
        ({"workers_per_model": 3}, [(2, 0)], r"engine.workers_per_model × .* is 3, the cluster has 2 CPUs"),
        ({"threads_per_worker": 5}, [(2, 0), (2, 0)], r"engine.threads_per_worker is 5, the cluster has 4 CPUs: lower"),
        # A head that trains nothing, and workers that nothing has asked for yet.
        ({}, [(0, 0)], r"is 1, the cluster has 0 CPUs: start a worker node first \(min_workers: 1 "),
        ({"gpus_per_worker": 1}, [(8, 0)], r"asks for 1 GPUs a model, the cluster has 0: set engine.gpus_per_worker=0"),
        ({"gpus_per_worker": 1, "workers_per_model": 4}, [(8, 2)], r"asks for 4 GPUs a model, the cluster has 2"),
        # Enough of everything together, but no node has it at once.
        ({"threads_per_worker": 3}, [(2, 0), (2, 0)], r"hold 0 workers of 3 CPUs .* a model needs 1: lower"),
        ({"threads_per_worker": 2, "workers_per_model": 3}, [(3, 0), (3, 0)], r"hold 2 workers .* a model needs 3"),
        ({"gpus_per_worker": 1}, [(0, 1), (4, 0)], r"hold 0 workers of 1 CPUs and 1 GPUs"),
    ],
)
def test_more_than_the_cluster_has_is_refused(
    engine: dict[str, Any], shapes: list[tuple[float, float]], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        check_resources(EngineConfig(**engine), _cluster(*shapes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("engine", "shapes", "room"),
    [
        ({}, [(2, 0)], 2),
        ({"threads_per_worker": 2}, [(3, 0), (5, 0)], 3),
        ({"gpus_per_worker": 0.1}, [(64, 1)], 10),
        ({"gpus_per_worker": 2, "threads_per_worker": 8}, [(16, 8)], 2),
    ],
)
def test_room_for_workers(engine: dict[str, Any], shapes: list[tuple[float, float]], room: int) -> None:
    cluster = _cluster(*shapes)
    assert cluster.room(EngineConfig(**engine)) == room
    check_resources(EngineConfig(**engine), cluster)


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray must not even try: it would for minutes."""
    monkeypatch.setattr(ray, "init", lambda **settings: pytest.fail("Ray was asked to connect"))


@pytest.mark.usefixtures("no_ray")
@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("127.0.0.1:{port}", r"no Ray cluster answers \(.*refused.*\); give the HOST:PORT that `ray start --head`"),
        ("no-such-host.invalid:6379", r"no Ray cluster answers"),
        ("127.0.0.1:99999", r"no Ray cluster answers"),
        ("ray://127.0.0.1:10001", r"cannot run through Ray Client; .* HOST:6379, or hand it in by `ray job submit`"),
    ],
)
def test_an_address_of_nothing_is_refused_at_once(address: str, complaint: str) -> None:
    address = address.format(port=free_port())
    with (
        pytest.raises(InputError, match=f"--address {address}: .*{complaint}") as caught,
        started(address, EngineConfig()),
    ):
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_ray")
def test_the_environment_s_address_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(InputError, match="no Ray cluster answers"), started(None, EngineConfig()):
        pass


def test_an_address_that_is_none_is_refused() -> None:
    with (
        pytest.raises(InputError, match="--address garbage: no Ray cluster answers"),
        started("garbage", EngineConfig()),
    ):
        pass


def test_the_command_exits_with_2_and_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "raymia.tune", "--results", str(tmp_path / "results")]
    done = subprocess.run(
        [*command, "--address", f"127.0.0.1:{free_port()}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "no Ray cluster answers" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    """A cluster of two nodes, joined."""
    with nodes({"num_cpus": 1}, {"num_cpus": 1}) as address, started(address, EngineConfig()) as cluster:
        yield cluster


def test_a_joined_cluster_is_described(two_nodes: Cluster) -> None:
    assert two_nodes.joined
    assert len(set(two_nodes.nodes)) == 2
    assert two_nodes.shapes == ((1.0, 0.0), (1.0, 0.0))
    assert two_nodes.cpus == 2


def test_without_an_address_the_command_stays_by_itself(two_nodes: Cluster, tmp_path: Path) -> None:
    """Ray alone would join the cluster that was last started on this machine."""
    code = "from raymia.config import EngineConfig as C; from raymia.engine.cluster import started\n"
    code += "with started(None, C()) as cluster: print(len(cluster.nodes), cluster.joined)"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment
    )
    assert done.stdout.split() == ["1", "False"], done.stderr


def test_nodes_that_see_the_store_are_accepted(two_nodes: Cluster, store: Store) -> None:
    check_nodes(two_nodes, store, "fp32", "cpu")
    assert list(store.names()) == []


def test_every_node_is_asked_itself(two_nodes: Cluster, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second node, by its id, is made to miss the store; the first still sees it."""
    blind = two_nodes.nodes[1]
    asked = engine_cluster._node_problem

    def without_the_mount(store: Store, probe: str, *asked_of: str) -> str | None:
        here = ray.get_runtime_context().get_node_id() == blind
        return asked(Store(f"{store.root}-not-mounted") if here else store, probe, *asked_of)

    monkeypatch.setattr(engine_cluster, "_node_problem", without_the_mount)
    with pytest.raises(InputError, match=r"--results .*: node .* does not see this folder; give one that every node"):
        check_nodes(two_nodes, store, "fp32", "cpu")
    assert list(store.names()) == []


def test_a_node_without_fast_bf16_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: False)
    store.write("probe", b"", {})
    assert engine_cluster._node_problem(store, "probe", "fp32", "cpu") is None
    problem = engine_cluster._node_problem(store, "probe", "bf16", "cpu")
    assert problem is not None
    assert "has no fast bf16; set training.precision=fp32" in problem


@pytest.mark.slow
def test_sigterm_ends_cleanly(tmp_path: Path) -> None:
    """No stack dump, no process left, and the study's record says that it was interrupted."""
    command = small_study.command(tmp_path, "--set", "training.epochs=5000")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    family: set[int] = set()
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "results/artifacts/checkpoints").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        family = descendants(process.pid)
        assert family, (tmp_path / "log").read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
        assert wait_until_gone(family, 60) == set()
    finally:
        end(alive(family | {process.pid} if process.poll() is None else family))
    assert '"status": "interrupted"' in (tmp_path / "results/study/study.json").read_text()
    log_text = (tmp_path / "log").read_text()
    assert "Stack trace" not in log_text
    assert "Traceback" not in log_text
    assert "SIGTERM" not in log_text


def test_the_handler_of_sigterm_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(engine_cluster, "_connect", lambda address, engine: None)
    monkeypatch.setattr(engine_cluster, "described", lambda *, joined: _cluster((1, 0)))
    with started("auto", EngineConfig()):
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
            handler(signal.SIGTERM, None)
    assert signal.getsignal(signal.SIGTERM) == before
