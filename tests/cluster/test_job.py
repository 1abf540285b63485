"""The main command handed to a cluster as a job."""

import contextlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mlflow_ui import free_port
from tests.support.ray_nodes import alive, descendants, end, wait_until_gone
from tests.support.small_study import command, frontier, run

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

RAY = str(Path(sys.executable).with_name("ray"))


@pytest.fixture
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A head node with ports and a folder of its own; the address that takes jobs."""
    folder = tmp_path_factory.mktemp("r")  # Ray's sockets lie in it, and their paths must be short
    port = free_port()
    options = {
        "port": free_port(),
        "dashboard-port": port,
        "dashboard-agent-listen-port": free_port(),
        "ray-client-server-port": free_port(),
        "num-cpus": 2,
        "object-store-memory": 100 * 2**20,
        "temp-dir": folder,
    }
    start = [RAY, "start", "--head", "--block", *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(start, stdout=log, stderr=log)
    try:
        _wait_for_jobs(f"http://127.0.0.1:{port}", head, folder / "head.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        family = descendants(head.pid)
        head.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(30)
        end(wait_until_gone(family | {head.pid}, 10))
        head.wait(10)
        assert alive(family) == set()


def _wait_for_jobs(dashboard: str, head: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and head.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"{dashboard}/api/jobs/", timeout=5),
        ):
            return
        time.sleep(0.3)
    raise AssertionError(f"no dashboard at {dashboard}:\n{log.read_text()}")


def test_a_job_runs_the_study(dashboard: str, tmp_path: Path) -> None:
    submit = [RAY, "job", "submit", "--address", dashboard, "--no-wait", "--submission-id", "study", "--"]
    done = run([*submit, *command(tmp_path)])
    assert done.returncode == 0, done.stdout + done.stderr
    status = ""
    deadline = time.monotonic() + 300
    while status not in ("SUCCEEDED", "FAILED", "STOPPED") and time.monotonic() < deadline:
        time.sleep(1)
        status = _status(dashboard)
    assert status == "SUCCEEDED", run([RAY, "job", "logs", "--address", dashboard, "study"]).stdout
    assert {row["setting"] for row in frontier(tmp_path)} == {"none", "mixup alpha=0.3"}


def _status(dashboard: str) -> str:
    from ray.job_submission import JobSubmissionClient

    return str(JobSubmissionClient(dashboard).get_job_status("study"))
