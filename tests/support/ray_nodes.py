"""Ray clusters on this machine, and the processes they leave."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.mlflow_ui import free_port


@contextlib.contextmanager
def nodes(*shapes: dict[str, Any]) -> Iterator[str]:
    """A cluster with a node of each shape (arguments of `ray start`), the head first; its address."""
    from ray.cluster_utils import Cluster

    quiet = {"include_dashboard": False, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"gcs_server_port": free_port(), **quiet, **shapes[0]})
    try:
        for shape in shapes[1:]:
            cluster.add_node(object_store_memory=100 * 2**20, **shape)
        cluster.wait_for_nodes()
        yield str(cluster.address)
    finally:
        cluster.shutdown()


def descendants(pid: int) -> set[int]:
    """The processes started by this one, and by those."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The command's name, in parentheses, may hold anything.
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pids: set[int]) -> set[int]:
    """Those that still run; a zombie does not."""
    running = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                running.add(pid)
    return running


def wait_until_gone(pids: set[int], seconds: float) -> set[int]:
    """Those still alive after that time."""
    deadline = time.monotonic() + seconds
    while (left := alive(pids)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def end(pids: set[int]) -> None:
    """SIGKILL to these processes, whatever is left of them."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
