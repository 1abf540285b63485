"""Trials that drive the models must not take the processors from them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine import rendezvous
from tests.support.ray_nodes import nodes


def test_as_many_models_train_at_once_as_there_are_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any CPU for the trial would leave room for one model less: half of a machine of two.

    Each of the two trainings of this study ends only when the other has begun, in another process.
    """
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    monkeypatch.setenv(rendezvous.FOLDER, str(meeting))
    command = [sys.executable, "-m", "raymia.tune", "--train", "tests.engine.rendezvous:train", "--quiet"]
    command += ["--results", str(tmp_path / "results"), "--set", "plan.part_size=40", "--set", "plan.targets=1"]
    command += ["--set", "training.epochs=2", "--set", "attacks=[loss]"]
    with nodes({"num_cpus": rendezvous.AT_ONCE}) as address:
        done = subprocess.run([*command, "--address", address], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len({path.name.split("-")[0] for path in meeting.iterdir()}) == rendezvous.AT_ONCE
