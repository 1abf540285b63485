"""Memory of the workers while they train on CIFAR-10's quad of 4 × 15,000 records."""

import contextlib
import os
import tempfile
import threading
from pathlib import Path

import ray

from benchmarks.figure import Figure
from benchmarks.workload import noise_images, recipe, training
from raymia.engine.workshop import open_workshop
from raymia.records import load_records
from raymia.store import Store

MIB = 2**20
PARTS = 4


class _Watch:
    """The most memory (bytes) that each Ray worker below this process was seen to hold, from a thread that looks.

    own: pages that no other process shares. proportional: those, and its part of the shared ones.
    """

    def __init__(self) -> None:
        self.own: dict[int, int] = {}
        self.proportional: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.25):
            for pid in workers():
                with contextlib.suppress(OSError, KeyError):
                    own, proportional = memory_of(pid)
                    self.own[pid] = max(own, self.own.get(pid, 0))
                    self.proportional[pid] = max(proportional, self.proportional.get(pid, 0))


def workers() -> list[int]:
    """Ray's worker processes that descend from this one."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[pid] = (folder / "cmdline").read_bytes()
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return [pid for pid in ours if names[pid].startswith(b"ray::")]


def memory_of(pid: int) -> tuple[int, int]:
    """Own and proportional memory of a process, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in lines)}
    return sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Pss"]


def quad(small: bool, cifar10: str | None) -> list[Figure]:
    """Two workers train on 15,000 of the records that the object store holds once. cifar10: its Parquet file."""
    members = 500 if small else 15_000
    if cifar10 is None:
        records = noise_images(PARTS * members)
    else:
        records = load_records(cifar10, limit=PARTS * members if small else None)
    settings = training(1, 64)
    models = [recipe(records, "resnet18", {"width": 16}, settings, members, number) for number in range(2)]
    with tempfile.TemporaryDirectory() as folder, _Watch() as watch:
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        try:
            workshop = open_workshop(ray.put(records), Store(folder))
            failures = [one for one in ray.get([workshop.make.remote(model) for model in models]) if one]
        finally:
            ray.shutdown()
    if failures:
        raise RuntimeError(failures[0].message)
    own, proportional = max(watch.own.values()) / MIB, max(watch.proportional.values()) / MIB
    how = (
        f"{len(records):,} records ({records.inputs.nbytes / MIB:.0f} MiB, {records.source}) in the object store, "
        f"ResNet18 width 16 on {members:,} of them in 2 workers; "
        f"with its part of shared pages: {proportional:.0f} MiB"
    )
    return [Figure("memory of the largest worker, its own pages", own, " MiB", ("<", 2048), how)]
