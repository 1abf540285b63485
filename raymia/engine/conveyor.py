"""The stream that draws shards over the cluster: samplers at work while judges label, filter and write.

One shard is one block of Ray Data. Samplers reserve CPUs or GPUs as a model in training does; judges reserve nothing,
so that what a sampler has drawn is always taken away, whoever else holds the machine. Nothing that reserves waits for
anything that reserves: streams beside each other, and beside other tasks, cannot block one another. A judge writes what
it has judged itself: a process for that alone would take more CPU to start than all the writing.
"""

import gc
import pickle
from collections.abc import Generator, Sequence

import pyarrow as pa
import ray.data
import torch
from ray.data import ActorPoolStrategy, ExecutionResources
from ray.exceptions import RayError

from raymia.config import EngineConfig
from raymia.diffusion.drawing import ShardJob, Stage
from raymia.diffusion.shards import ShardReport, write_shard
from raymia.engine.cluster import described
from raymia.engine.streams import RETRIES, one_line, quiet_ray_data, retries_of_a_stage
from raymia.errors import RaymiaError
from raymia.store import Store

# A judge's one pass costs little beside a sampler's dozens.
_SAMPLERS_PER_JUDGE = 4
# Shards that may wait between the stages, above what actors work on.
_WAITING = 4


def draw_on_cluster(numbers: Sequence[int], job: ShardJob, store: Store) -> Generator[ShardReport, None, None]:
    """A conveyor over as many samplers as the cluster has room for, see `raymia.diffusion.drawing.Conveyor`.

    Whatever their number, the shards are the same. A stage's process that dies is replaced, a few times. Raises what a
    stage raises, if it is an error of raymia's, else RunError.
    """
    failure = yield from _reports(_stream(numbers, job, store))
    if failure is not None:
        # Ray's error holds the stream, and that its actors, which would keep their CPUs.
        gc.collect()
        raise failure


def _stream(numbers: Sequence[int], job: ShardJob, store: Store) -> ray.data.Dataset:
    """The shards' reports, to be drawn as they are iterated over."""
    shards = ray.data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
    samplers = max(1, min(len(numbers), _room(job)))
    _set_up(shards.context, job, samplers)
    # Of a shard, not of an actor: a long run may lose many, but bytes that kill every one must not go round for ever.
    stage = {"batch_format": "pyarrow", "max_task_retries": RETRIES}
    with retries_of_a_stage():
        sampled = shards.map_batches(
            _Sampler,
            batch_size=1,
            compute=ActorPoolStrategy(size=samplers, max_tasks_in_flight_per_actor=2),
            fn_constructor_kwargs={"job": job},
            num_cpus=job.threads,
            num_gpus=job.gpus,
            **stage,
        )
        return sampled.map_batches(
            _Judge,
            batch_size=None,
            compute=ActorPoolStrategy(size=-(-samplers // _SAMPLERS_PER_JUDGE), max_tasks_in_flight_per_actor=2),
            fn_constructor_kwargs={"job": job, "store": store},
            num_cpus=0,
            **stage,
        )


def _reports(stream: ray.data.Dataset) -> Generator[ShardReport, None, RaymiaError | None]:
    """The reports of the finished shards; the value of the generator is why it failed."""
    with quiet_ray_data():
        try:
            for batch in stream.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for report in batch["report"].to_pylist():
                    yield pickle.loads(report)
        except RayError as error:
            return one_line(error, "drew images")
    return None


def _room(job: ShardJob) -> int:
    return described(joined=True).room(EngineConfig(threads_per_worker=job.threads, gpus_per_worker=job.gpus))


def _set_up(context: ray.data.DataContext, job: ShardJob, samplers: int) -> None:
    """However many shards are asked for, only so many are in memory; one shard stays one block."""
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    context.target_max_block_size = None
    height, width, channels = job.shape
    shard_bytes = job.shard_size * (height * width * channels + 32)
    # Of this, Ray Data lets each of the two stages fill a part.
    limit = 2 * (2 * samplers + _WAITING) * shard_bytes
    context.execution_options.resource_limits = ExecutionResources.for_limits(object_store_memory=limit)


class _Sampler:
    """Draws the images of one shard after another."""

    def __init__(self, job: ShardJob) -> None:
        torch.set_num_threads(job.threads)
        self._job = job
        self._stage: Stage | None = None

    def __call__(self, numbers: pa.Table) -> pa.Table:
        # Not made before: what goes wrong in a constructor, Ray reports without its cause.
        if self._stage is None:
            self._stage = self._job.sample_stage()
        (number,) = numbers["number"].to_pylist()
        return self._stage(self._job.shard(number).asked())


class _Judge:
    """Labels, filters and writes one shard after another; a row with the report for each."""

    def __init__(self, job: ShardJob, store: Store) -> None:
        torch.set_num_threads(job.threads)
        self._job, self._store = job, store
        self._stage: Stage | None = None

    def __call__(self, drawn: pa.Table) -> pa.Table:
        if self._stage is None:
            self._stage = self._job.judge_stage()
        number = drawn["id"][0].as_py() // self._job.shard_size
        report = write_shard(self._store, self._job.shard(number), self._stage(drawn))
        return pa.table({"report": [pickle.dumps(report)]})
