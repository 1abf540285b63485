"""Attacks by reference models: LiRA streamed from disk beside plain NumPy in memory, RMIA by sorting beside pairs."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figure import Figure, seconds
from raymia.attacks import AttackerView, Lira, LiraForm, ReferenceRecords, References, Signals, run_attack
from raymia.attacks.references import Rows
from raymia.attacks.rmia import share_reached
from raymia.records.plan import reference_membership

Floats = NDArray[np.floating[Any]]
POPULATION = 25_000
PAIRWISE = 1000


@dataclass(frozen=True)
class Size:
    """M reference models' answers to Q queries on N records, of C classes."""

    records: int = 50_000
    models: int = 256
    queries: int = 2
    classes: int = 10


def lira(small: bool, size: Size | None = None) -> list[Figure]:
    """LiRA online, each record's own variance, in processes of their own on one thread."""
    size = size or (Size(records=2000, models=128) if small else Size())
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), size)
        runs = {name: [_in_a_process(name, folder) for _ in range(1 if small else 3)] for name in ("plain", "streamed")}
        gap = _largest_gap(Path(folder))
    if not gap < 1e-3:  # the plain form computes in float32
        raise RuntimeError(f"the two forms differ by {gap:.2g} in the logarithm of the likelihood ratio")
    best = {name: min(one["cpu"] for one in found) for name, found in runs.items()}
    wall = {name: min(one["wall"] for one in found) for name, found in runs.items()}
    peak = {name: max(one["peak"] for one in found) for name, found in runs.items()}
    how = (
        f"{size.records:,} records × {size.models} models × {size.queries} queries × {size.classes} classes, least CPU "
        f"seconds of {len(runs['plain'])} runs on one thread: streamed {best['streamed']:.2f} (wall "
        f"{wall['streamed']:.2f}, files in the page cache), plain {best['plain']:.2f} (wall {wall['plain']:.2f}, from "
        f"arrays in memory, float32); scores differ by at most {gap:.1g}"
    )
    return [
        Figure(
            "LiRA in memory, plain NumPy / streamed from disk, CPU time",
            best["plain"] / best["streamed"],
            "×",
            None if small else (">=", 1),
            how,
        ),
        Figure(
            "peak memory of LiRA streamed, the process with all it imports",
            peak["streamed"],
            " MiB",
            ("<", 1024),
            f"plain: {peak['plain']:.0f} MiB; VmHWM of a process of its own",
        ),
    ]


def rmia(small: bool) -> list[Figure]:
    """Comparing every record's ratio with every ratio of the population."""
    records, strangers = (2000, 1000) if small else (50_000, POPULATION)
    rng = np.random.default_rng(0)
    ratio_N, ratio_Z = np.exp(rng.normal(size=records)), np.exp(rng.normal(size=strangers))
    ratio_Z[: strangers // 10] = ratio_N[: strangers // 10] / 2  # ties
    taken_N = ratio_N[:PAIRWISE]

    def sort() -> Floats:
        return share_reached(ratio_N, np.sort(2.0 * ratio_Z))

    def pair() -> Floats:
        return (taken_N[:, None] >= 2.0 * ratio_Z[None]).mean(axis=1)

    if not np.array_equal(sort()[:PAIRWISE], pair()):
        raise RuntimeError("the two forms differ")
    sorting = min(seconds(sort) for _ in range(5))
    pairing = min(seconds(pair) for _ in range(5)) * records / len(taken_N)
    how = (
        f"{records:,} records × {strangers:,} of the population: {1000 * sorting:.1f} ms by sorting; by pairs "
        f"{pairing:.2f} s, from {len(taken_N):,} records, scaled to all; equal on these to the last bit"
    )
    return [Figure("RMIA's counts, pairwise / by sorting", pairing / sorting, "×", None if small else (">=", 50), how)]


class _Stored:
    """One model's answers in a file, mapped only while a part of them is read: mapped pages count as memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.shape: tuple[int, ...] = np.load(path, mmap_mode="r").shape

    def __getitem__(self, rows: Rows) -> NDArray[np.float32]:
        return np.array(np.load(self._path, mmap_mode="r")[rows])


def _write(folder: Path, size: Size) -> None:
    """Answers of the target (first) and the references; each on half of the records is surer of their classes."""
    rng = np.random.default_rng(0)
    labels_N = rng.integers(0, size.classes, size.records)
    member_N = rng.random(size.records) < 0.5
    in_MN = reference_membership(size.records, models=size.models, seed=0, target=0)
    for number, inside_N in enumerate([member_N, *in_MN]):
        logits_NQC = rng.standard_normal((size.records, size.queries, size.classes), dtype=np.float32)
        logits_NQC[np.arange(size.records), :, labels_N] += 3 + inside_N[:, None]
        np.save(folder / f"{number:04}.npy", logits_NQC)
    np.savez(folder / "plan.npz", labels_N=labels_N, in_MN=in_MN)
    (folder / "size.json").write_text(json.dumps(asdict(size)))


def _in_a_process(name: str, folder: str) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.attacks", name, folder]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _largest_gap(folder: Path) -> float:
    return float(np.abs(np.load(folder / "plain.scores.npy") - np.load(folder / "streamed.scores.npy")).max())


def _streamed(folder: Path) -> Callable[[], Floats]:
    plan = np.load(folder / "plan.npz")
    first, *others = sorted(folder.glob("[0-9]*.npy"))
    references = References.of([_Stored(path) for path in others], plan["in_MN"])
    view = AttackerView(
        json.loads((folder / "size.json").read_text())["classes"],
        records=ReferenceRecords(plan["labels_N"], references),
    )
    target = Signals(np.load(first), plan["labels_N"], references)
    return lambda: run_attack(Lira(LiraForm.ONLINE), view, target, np.random.default_rng(0))


def _plain(folder: Path) -> Callable[[], Floats]:
    plan = np.load(folder / "plan.npz")
    first, *others = sorted(folder.glob("[0-9]*.npy"))
    own_NQC, logits_MNQC = np.load(first), np.stack([np.load(path) for path in others])
    return lambda: plain_lira(own_NQC, logits_MNQC, plan["labels_N"], plan["in_MN"])


def plain_lira(own_NQC: Floats, logits_MNQC: Floats, labels_N: NDArray[np.int64], in_MN: NDArray[np.bool_]) -> Floats:
    """What one writes with everything in memory; every record IN as many models."""

    def confidences(logits: Floats) -> Floats:
        labels = np.broadcast_to(labels_N[:, None, None], (*logits.shape[:-1], 1))
        others = logits.copy()
        np.put_along_axis(others, labels, -np.inf, axis=-1)
        top = others.max(axis=-1)
        sums = np.exp(others - top[..., None]).sum(axis=-1)
        return np.take_along_axis(logits, labels, axis=-1)[..., 0] - top - np.log(sums)

    def log_density(mask_MN: NDArray[np.bool_]) -> Floats:
        order = np.argsort(~mask_MN, axis=0, kind="stable")[: mask_MN[:, 0].sum()]
        group_KNQ = np.take_along_axis(phi_MNQ, order[:, :, None], axis=0)
        mean_NQ, variance_NQ = np.median(group_KNQ, axis=0), group_KNQ.var(axis=0, ddof=1)
        return -0.5 * ((phi_NQ - mean_NQ) ** 2 / variance_NQ + np.log(2 * np.pi * variance_NQ))

    phi_NQ, phi_MNQ = confidences(own_NQC), confidences(logits_MNQC)
    return (log_density(in_MN) - log_density(~in_MN)).mean(axis=1)


def _main(name: str, folder: Path) -> None:
    attack = {"plain": _plain, "streamed": _streamed}[name](folder)
    wall, cpu = time.perf_counter(), time.process_time()
    scores_N = attack()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.save(folder / f"{name}.scores.npy", scores_N)
    peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": int(peak) / 1024}))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
