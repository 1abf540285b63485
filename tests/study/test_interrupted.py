"""A study's results depend on nothing that happens to it: processors, Ctrl-C, killed workers, a killed driver."""

import os
import signal
import time
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.study.command import (
    TINY,
    Command,
    artifacts,
    assignments,
    frontier,
    record_of,
    tune,
    write_space,
)

pytestmark = pytest.mark.slow

# Long enough to be met while it trains, with checkpoints to go on from.
LONG = (*TINY, "training.epochs=600", "training.checkpoint_every=50")
ENDS_WITHIN = 30.0


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_space(tmp_path_factory.mktemp("space") / "tiny.yaml", "mixup: {alpha: [0.5]}")


@pytest.fixture(scope="module")
def undisturbed(space: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("undisturbed")
    outcome = tune(arguments(space), folder)
    assert (outcome.code, outcome.errors) == (0, "")
    return frontier(folder / "results")


def arguments(space: Path, *more: str) -> list[str]:
    return ["--space", str(space), "--results", "results", *assignments(*LONG), *more]


def training_workers(command: Command) -> list[int]:
    """Processes that train a model of this run; Ray titles a worker with its task's name, the model's label."""
    return [number for number, title in command.processes().items() if title.startswith("ray::") and " · " in title]


def checkpoints(folder: Path) -> dict[str, int]:
    return {name: when for name, when in artifacts(folder / "results", "checkpoints").items() if "/." not in name}


def test_one_processor_gives_the_same_table_as_two(space: Path, undisturbed: bytes, tmp_path: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        outcome = tune(arguments(space, "--address", cluster.address), tmp_path)
    finally:
        cluster.shutdown()
    assert (outcome.code, outcome.errors) == (0, "")
    assert frontier(tmp_path / "results") == undisturbed


def test_ctrl_c_ends_soon_and_the_same_command_goes_on(space: Path, undisturbed: bytes, tmp_path: Path) -> None:
    command = Command(arguments(space), tmp_path)
    # Some models are done, others are in the middle.
    command.wait_until(lambda: len(artifacts(tmp_path / "results", "models")) >= 2 and checkpoints(tmp_path))
    began = time.monotonic()
    outcome = command.interrupt()
    assert time.monotonic() - began < ENDS_WITHIN
    assert outcome.code == 130
    # A terminal shows ^C where the cursor is: the line begins below it.
    assert outcome.errors.startswith("\nraymia: interrupted")
    assert outcome.errors.count("\n") == 2
    assert record_of(tmp_path / "results")["status"] == "interrupted"
    left_over(command, seconds=15)
    done = artifacts(tmp_path / "results", "models")
    resumed = tune(arguments(space), tmp_path)
    assert (resumed.code, resumed.errors) == (0, "")
    assert f"reusing {len(done)} of 8 trained models" in resumed.output
    after = artifacts(tmp_path / "results", "models")
    assert {name: after[name] for name in done} == done
    assert frontier(tmp_path / "results") == undisturbed
    record = record_of(tmp_path / "results")
    assert record["status"] == "complete"
    assert len(record["sessions"]) == 2
    assert record["cost"]["wall_seconds"] == pytest.approx(sum(one["wall_seconds"] for one in record["sessions"]))


def test_a_killed_worker_costs_the_epochs_since_its_checkpoint(space: Path, undisturbed: bytes, tmp_path: Path) -> None:
    command = Command(arguments(space), tmp_path)
    command.wait_until(lambda: checkpoints(tmp_path))
    [victim, *_] = command.wait_until(lambda: training_workers(command))
    os.kill(victim, signal.SIGKILL)
    outcome = command.end()
    assert outcome.code == 0, outcome
    assert frontier(tmp_path / "results") == undisturbed
    assert record_of(tmp_path / "results")["failures"] == []


def test_a_killed_driver_leaves_a_study_that_goes_on(space: Path, undisturbed: bytes, tmp_path: Path) -> None:
    command = Command(arguments(space), tmp_path)
    command.wait_until(lambda: artifacts(tmp_path / "results", "models") and checkpoints(tmp_path))
    command.kill()
    command.end()
    assert record_of(tmp_path / "results")["status"] == "running"
    done = len(artifacts(tmp_path / "results", "models"))
    resumed = tune(arguments(space), tmp_path)
    assert (resumed.code, resumed.errors) == (0, "")
    # Workers outlive their driver by seconds, and may finish what they were at.
    assert any(f"reusing {number} of 8 trained models" in resumed.output for number in range(done, 9))
    assert frontier(tmp_path / "results") == undisturbed
    left_over(command, seconds=120)


def left_over(command: Command, seconds: float) -> None:
    """Wait for every process of the run to be gone."""
    deadline = time.monotonic() + seconds
    while command.processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert command.processes() == {}
