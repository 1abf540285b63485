"""Drawing synthetic shards: memory while a million images pass, and the samplers' speed beside the bare loop."""

import contextlib
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray
import torch
from numpy.typing import NDArray

from benchmarks.figure import Figure, seconds, spread
from benchmarks.memory import MIB, memory_of, workers
from raymia.config import DiffusionConfig
from raymia.diffusion.denoiser import build_denoiser
from raymia.diffusion.drawing import ShardJob, Stage
from raymia.diffusion.filter import Filter
from raymia.diffusion.sampler import Sampler
from raymia.diffusion.shards import Shape, conditions_of, with_images, with_verdicts
from raymia.engine.conveyor import draw_on_cluster
from raymia.store import Store

CLASSES = 10
SHARD = 256
SMALL: Shape = (8, 8, 1)
RAY_NICENESS = 15  # its default for workers; on a busy machine it decides
SMALLEST_STORE = 80 * MIB  # Ray takes no object store below 75 MiB


@dataclass(frozen=True)
class _Noise:
    """Makes a stage that gives random images at once."""

    shape: Shape

    def __call__(self) -> Stage:
        def stage(asked: pa.Table) -> pa.Table:
            rng = np.random.default_rng(asked["id"][0].as_py())
            return with_images(asked, rng.integers(0, 256, (len(asked), *self.shape), dtype=np.uint8))

        return stage


def _passing() -> Stage:
    """A stage that keeps every image as what it was asked for."""

    def stage(drawn: pa.Table) -> pa.Table:
        logits_NK = np.zeros((len(drawn), CLASSES), dtype=np.float32)
        return with_verdicts(drawn, Filter("condition", 0.0).judge(logits_NK, conditions_of(drawn)))

    return stage


@dataclass(frozen=True)
class _Network:
    """Makes a stage that samples from an untrained denoiser: its speed does not depend on what it learned.

    log: a file where the stage notes when each shard was sampled: wall and CPU time.
    """

    config: DiffusionConfig
    shape: Shape
    log: str

    def sampler(self) -> Sampler:
        """In this process."""
        height, width, channels = self.shape
        torch.manual_seed(0)
        denoiser = build_denoiser(self.config, (channels, height, width), CLASSES)
        return Sampler(denoiser, self.config, self.config.guidance, 0, torch.device("cpu"))

    def __call__(self) -> Stage:
        sampler = self.sampler()

        def stage(asked: pa.Table) -> pa.Table:
            drawn = with_images(asked, sampler.sample(asked["id"].to_numpy(), asked["condition"].to_numpy()))
            with Path(self.log).open("a") as log:
                log.write(f"{time.time()} {time.process_time()}\n")
            return drawn

        return stage


def _job(sample: _Noise | _Network, shape: Shape, images: int, shard_size: int) -> ShardJob:
    return ShardJob(
        folder="synthetic/benchmark",
        key="benchmark",
        shard_size=shard_size,
        shape=shape,
        classes=CLASSES,
        conditional=True,
        per_class=None,
        max_images=images,
        sample_stage=sample,
        judge_stage=_passing,
    )


@contextlib.contextmanager
def _ray(cpus: int) -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=SMALLEST_STORE,
    )
    try:
        yield
    finally:
        ray.shutdown()


class _Peaks:
    """The most memory (bytes) seen, from a thread that looks: of this process and Ray's workers, and of the store.

    own: pages that no other process shares, by process. together: all of these at one time. store: objects in Ray's
    object store.
    """

    def __init__(self) -> None:
        self.own: dict[int, int] = {}
        self.together = 0
        self.store = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "_Peaks":
        self._thread.start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            now = 0
            for pid in [os.getpid(), *workers()]:
                with contextlib.suppress(OSError, KeyError):
                    own, _ = memory_of(pid)
                    self.own[pid] = max(own, self.own.get(pid, 0))
                    now += own
            self.together = max(self.together, now)
            free = ray.available_resources().get("object_store_memory", SMALLEST_STORE)
            self.store = max(self.store, int(SMALLEST_STORE - free))


def stream_memory(small: bool) -> list[Figure]:
    """A million images of 32×32×3 through the stream, and a hundredth of them: what the others cost in memory."""
    few, many = (5_120, 25_600) if small else (10_240, 1_000_000)
    shape = (32, 32, 3)
    peaks, times = [], []
    for images in (few, many):
        job = _job(_Noise(shape), shape, images, SHARD)
        with tempfile.TemporaryDirectory() as folder, _ray(2), _Peaks() as peak:
            store = Store(folder)
            times.append(seconds(lambda one=job, into=store: _drain(one, into)))  # type: ignore[misc]
        peaks.append(peak)
    size = int(np.prod(shape))
    whole = [(peak.together + peak.store) / MIB for peak in peaks]
    passing = (
        f"{many:,} images, {many * size / MIB:,.0f} MiB, in {times[1]:.0f} s; {peaks[0].store / MIB:.1f} MiB with "
        f"{few:,} images; the target is the size of 10,000"
    )
    a_shard = (whole[1] - whole[0]) * 1024 / ((many - few) / SHARD)
    how = (
        f"{whole[1]:,.0f} MiB, of {few:,} {whole[0]:,.0f} MiB: own pages of this process and Ray's workers (the "
        f"largest {max(peaks[1].own.values()) / MIB:.0f} MiB, libraries) and the object store; {a_shard:.0f} KiB a "
        f"shard of {SHARD * size / 1024:.0f} KiB, what Ray notes of its tasks"
    )
    return [
        Figure("images in memory while they stream", peaks[1].store / MIB, " MiB", ("<", 10_000 * size / MIB), passing),
        Figure(f"all memory with {many:,} images above that with {few:,}", whole[1] - whole[0], " MiB", None, how),
    ]


def _drain(job: ShardJob, store: Store) -> None:
    for _ in draw_on_cluster(range(job.shards), job, store):
        pass


def sampler_speed(small: bool) -> list[Figure]:
    """Images a second of one sampler of the stream, to those of the bare loop on as many threads (one)."""
    size, shards, rounds = (128, 6, 1) if small else (256, 12, 3)
    walls, processors = [], []
    streamed, bare = np.zeros((0, 2)), np.zeros((0, 2))
    for _ in range(rounds):
        # What else the machine does meets both alike.
        before = _bare_seconds(size, shards // 2)
        inside = _streamed_seconds(size, shards)
        alone = np.concatenate([before, _bare_seconds(size, shards // 2)])
        wall, processor = alone.mean(axis=0) / inside.mean(axis=0)
        walls.append(wall)
        processors.append(processor)
        streamed, bare = np.concatenate([streamed, inside]), np.concatenate([bare, alone])
    how = (
        f"{DiffusionConfig().sampler_steps} evaluations an image, {size} images of 8×8 a shard, seconds each: stream "
        f"{spread(streamed[:, 0].tolist())}; bare {spread(bare[:, 0].tolist())}"
    )
    cpu = (
        f"CPU seconds a shard, which a busy machine disturbs less: stream {spread(streamed[:, 1].tolist())}; bare "
        f"{spread(bare[:, 1].tolist())}"
    )
    name = "of a sampler in the stream / bare loop"
    return [
        Figure(f"images a second {name}", statistics.median(walls), "×", (">=", 0.9), how),
        Figure(f"images a CPU second {name}", statistics.median(processors), "×", None, cpu),
    ]


def _bare_seconds(size: int, shards: int) -> NDArray[np.float64]:
    """Wall and CPU time of each shard of a plain loop in a process of its own, of the priority of Ray's workers."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_loop, size, shards).result()


def _loop(size: int, shards: int) -> NDArray[np.float64]:
    os.setpriority(os.PRIO_PROCESS, 0, RAY_NICENESS)
    torch.set_num_threads(1)
    sampler = _Network(DiffusionConfig(), SMALL, "").sampler()
    ends = []
    for number in range(shards + 1):  # the first warms up
        _sample(sampler, number * size, size)
        ends.append((time.time(), time.process_time()))
    return np.diff(np.array(ends), axis=0)


def _streamed_seconds(size: int, shards: int) -> NDArray[np.float64]:
    """Wall and CPU time between the ends of the shards that the stream's one sampler draws."""
    with tempfile.TemporaryDirectory() as folder, _ray(1):
        log = Path(folder, "log")
        _drain(_job(_Network(DiffusionConfig(), SMALL, str(log)), SMALL, shards * size, size), Store(folder))
        return np.diff(np.loadtxt(log), axis=0)


def _sample(sampler: Sampler, start: int, count: int) -> None:
    ids = np.arange(start, start + count, dtype=np.int64)
    sampler.sample(ids, ids % CLASSES)
