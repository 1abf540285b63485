"""A whole study whose models train by two workers each, on two CPUs: drivers and groups must not starve each other."""

import json
from pathlib import Path

import pytest

from tests.support.ray_nodes import nodes
from tests.support.small_study import command, frontier, run

pytestmark = pytest.mark.slow


def test_a_study_of_groups_ends(tmp_path: Path) -> None:
    with nodes({"num_cpus": 2}) as address:
        done = run(command(tmp_path, "--address", address, "--set", "engine.workers_per_model=2", "--model", "mlp"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert {row["setting"] for row in frontier(tmp_path)} == {"none", "mixup alpha=0.3"}
    record = json.loads((tmp_path / "results/study/study.json").read_text())
    assert record["status"] == "complete"
    assert record["config"]["engine"]["workers_per_model"] == 2
    assert len(list((tmp_path / "results/artifacts/models").iterdir())) == 4
