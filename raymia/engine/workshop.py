"""The workshop: one small actor through which all of a study's recipes are built, each once, as Ray tasks.

Trials ask it for their results; recipes that several trials need are built for the first and awaited by the others.
It also owns the tasks, so they share one pool of warm workers, and knows how far everything is.
"""

import asyncio
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from raymia.config import EngineConfig
from raymia.diffusion.drawing import ShardJob
from raymia.diffusion.shards import ShardReport
from raymia.engine.cluster import HEAD_SLIVER, described
from raymia.engine.outcome import Failure, guarded
from raymia.engine.outcome import failure as failure_of
from raymia.recipes.recipe import CHECKPOINTED, MODELS, Bench, Recipe, ready
from raymia.recipes.result import ResultRecipe
from raymia.records.dataset import Records
from raymia.store import Inspection, Store
from raymia.training.rows import StoredInputs

_REPORT_SECONDS = 0.5
# Streams of images at a time: one takes all the samplers that the cluster has room for.
_STREAMS = 1
# What takes long enough to be worth watching.
_WATCHED = frozenset({*CHECKPOINTED, "synthetic"})


class Making(NamedTuple):
    """How far the making of a recipe of some kind is."""

    kind: str
    done: int
    total: int


@dataclass
class Tally:
    """What the workshop has done: recipes by kind, each counted once, and by label what is in the making."""

    built: dict[str, int] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    running: dict[str, Making] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    @staticmethod
    def models(counts: Mapping[str, int]) -> int:
        """How many of the recipes counted (`built` or `reused`) are models that were trained."""
        return sum(counts.get(kind, 0) for kind in MODELS)


class Workshop:
    """See the module. An async actor: a build in flight holds no thread."""

    def __init__(self, records: list[Any], store: Store) -> None:
        # A reference inside a list stays one: the records are fetched by the tasks, not here.
        self._records = records[0]
        self._store = store
        self._inspection = Inspection()
        self._tally = Tally(damaged=self._inspection.damaged)
        self._orders: dict[int, ResultRecipe] = {}
        self._failures: dict[int, list[Failure]] = {}
        self._building: dict[str, asyncio.Future[Failure | None]] = {}
        self._counted: set[str] = set()
        self._whole: set[str] = set()
        self._submitted: set[str] = set()
        self._groups = 0
        self._group_ended = asyncio.Condition()
        self._streams = asyncio.Semaphore(_STREAMS)

    async def order(self, number: int, recipe: ResultRecipe) -> None:
        """Take down a setting's recipe, to be made when its trial starts."""
        self._orders[number] = recipe

    async def fulfil(self, number: int) -> dict[str, float] | Failure:
        """Make an ordered setting; what a search may go by, or why not."""
        recipe = self._orders[number]
        failure = await self.make(recipe)
        if failure is None:
            try:
                measured = await asyncio.to_thread(recipe.open, self._store)
            except Exception as error:
                failure = failure_of(error)
            else:
                self._failures.pop(number, None)
                return measured.outcome
        self._failures.setdefault(number, []).append(failure)
        return failure

    async def failures(self) -> dict[int, list[Failure]]:
        """Every failed try of the settings that failed, by number."""
        return self._failures

    async def make(self, recipe: Recipe) -> Failure | None:
        """Build a recipe and all it needs; None, or why not. A failed one may be asked for again."""
        while recipe.key in self._building:
            earlier = await self._building[recipe.key]
            if earlier is not None:
                return earlier
            # The one in flight had the same key, but may have been asked for other snapshots.
        future: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._building[recipe.key] = future
        failure: Failure | None = Failure("the build was abandoned", "", retry=True)
        try:
            failure = await self._make(recipe)
        except Exception as error:
            # The store cannot be read, say: a setting's failure, with its reason, like any other.
            failure = failure_of(error)
        finally:
            del self._building[recipe.key]
            future.set_result(failure)
        return failure

    async def _make(self, recipe: Recipe) -> Failure | None:
        # What an artifact was made from is wanted too, even where the artifact itself is there: results stand on it.
        failures = await asyncio.gather(*(self.make(part) for part in recipe.requires() if part.key not in self._whole))
        failed = [failure for failure in failures if failure is not None]
        if failed:
            return failed[0]
        if await asyncio.to_thread(ready, recipe, self._store, self._inspection):
            self._whole.add(recipe.key)
            self._count(recipe, self._tally.reused)
            return None
        failure = await (self._build_in_group(recipe) if recipe.workers > 1 else self._build(recipe))
        if failure is None:
            self._count(recipe, self._tally.built)
        return failure

    def _count(self, recipe: Recipe, tally: dict[str, int]) -> None:
        # Settings that share a recipe each find it ready, after the first: it is still one recipe.
        if recipe.key not in self._counted:
            self._counted.add(recipe.key)
            tally[recipe.kind] = tally.get(recipe.kind, 0) + 1

    async def _build(self, recipe: Recipe) -> Failure | None:
        if recipe.threads:
            return await self._build_alone(recipe)
        # What holds no CPU itself starts actors that do: as many at once as there are settings would fill the memory.
        async with self._streams:
            return await self._build_alone(recipe)

    async def _build_alone(self, recipe: Recipe) -> Failure | None:
        options = _build.options(
            num_cpus=recipe.threads, num_gpus=recipe.gpus, scheduling_strategy="DEFAULT", name=recipe.label
        )
        return await self._outcome(recipe, options, self._records)

    async def _build_in_group(self, recipe: Recipe) -> Failure | None:
        """Start a group once there is room for all of it: the task that launches it holds no CPU that would wait."""
        engine = recipe.ground.config.engine  # type: ignore[attr-defined]
        async with self._group_ended:
            while self._groups >= max(1, (await asyncio.to_thread(_room, engine)) // recipe.workers):
                await self._group_ended.wait()
            self._groups += 1
        try:
            options = _build_in_group.options(num_cpus=0, scheduling_strategy="DEFAULT", name=recipe.label)
            return await self._outcome(recipe, options, [self._records])
        finally:
            async with self._group_ended:
                self._groups -= 1
                self._group_ended.notify_all()

    async def _outcome(self, recipe: Recipe, task: Any, records: Any) -> Failure | None:
        """Wait for a recipe's task; its failure as a value."""
        me = ray.get_runtime_context().current_actor
        self._submitted.add(recipe.label)
        try:
            failure: Failure | None = await task.remote(recipe, records, self._store, [me])
        except Exception as error:
            return failure_of(error)
        finally:
            self._submitted.discard(recipe.label)
            self._tally.running.pop(recipe.label, None)
        return failure

    async def progress(self, label: str, kind: str, done: int, total: int) -> None:
        """A recipe in the making says how far it is. Late words of one that has ended are ignored."""
        if label in self._submitted:
            self._tally.running[label] = Making(kind, done, total)

    async def tally(self) -> Tally:
        """What has been done so far."""
        return self._tally


def open_workshop(records: Any, store: Store) -> Any:
    """A workshop as a Ray actor on the head node, which takes no CPU. records: a reference to the study's records."""
    actor = ray.remote(num_cpus=0, resources=HEAD_SLIVER, max_concurrency=10_000)(Workshop)
    return actor.remote([records], store)


@ray.remote(max_retries=3)
def _build(recipe: Recipe, records: Records, store: Store, workshop: list[Any]) -> Failure | None:
    report = _Reporter(workshop[0], recipe)
    if recipe.kind in _WATCHED:
        report(0, 1)
    # A recipe that wants more threads asks for them; what the last one of this process wanted must not matter.
    torch.set_num_threads(1)
    bench = Bench(records, store, device=_device(), report=report, conveyor=_conveyor, fetch=fetch)
    return guarded(lambda: recipe.build(bench))


@ray.remote(max_retries=3)
def _build_in_group(recipe: Recipe, records: list[Any], store: Store, workshop: list[Any]) -> Failure | None:
    # Imported here: a group's machinery takes seconds to load, and few studies use it.
    from raymia.engine.group import build_in_group

    report = _Reporter(workshop[0], recipe)
    report(0, 1)
    return guarded(lambda: build_in_group(recipe, records[0], store, report))


# Imported where they are used: Ray Data takes seconds to load, and few recipes stream.
def _conveyor(numbers: Sequence[int], job: ShardJob, store: Store) -> Generator[ShardReport, None, None]:
    from raymia.engine.conveyor import draw_on_cluster

    return draw_on_cluster(numbers, job, store)


def fetch(inputs: StoredInputs, shares: Sequence[NDArray[np.int64]]) -> Iterator[NDArray[np.uint8]]:
    """See `raymia.engine.rows.fetch_on_cluster`."""
    from raymia.engine.rows import fetch_on_cluster

    return fetch_on_cluster(inputs, shares)


def _room(engine: EngineConfig) -> int:
    return described(joined=True).room(engine)


class _Reporter:
    """Tells the workshop how far a recipe is, now and then."""

    def __init__(self, workshop: Any, recipe: Recipe) -> None:
        self._workshop = workshop
        self._label, self._kind = recipe.label, recipe.kind
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last >= _REPORT_SECONDS:
            self._last = time.monotonic()
            self._workshop.progress.remote(self._label, self._kind, done, total)


def _device() -> torch.device:
    return torch.device("cuda" if ray.get_gpu_ids() else "cpu")
