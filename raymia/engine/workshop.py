"""The workshop: one small actor through which all of a study's recipes are built, each once, as Ray tasks.

Trials ask it for their results; recipes that several trials need are built for the first and awaited by the others.
It also owns the tasks, so they share one pool of warm workers, and knows how far everything is.
"""

import asyncio
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

import ray
import torch

from raymia.config import EngineConfig
from raymia.engine.cluster import HEAD_SLIVER, described
from raymia.errors import DivergedError, InputError
from raymia.recipes.recipe import Bench, Recipe, ready
from raymia.recipes.result import ResultRecipe
from raymia.records.dataset import Records
from raymia.store import Inspection, Store

# Deterministic: trying again would fail again.
_FINAL = (DivergedError, InputError)
_REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class Failure:
    """Why a recipe could not be built. retry: whether another try may succeed."""

    message: str
    detail: str
    retry: bool


@dataclass
class Tally:
    """What the workshop has done: recipes by kind, each counted once, and the models in training: (epoch, epochs)."""

    built: dict[str, int] = field(default_factory=dict)
    reused: dict[str, int] = field(default_factory=dict)
    running: dict[str, tuple[int, int]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)


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

    async def order(self, number: int, recipe: ResultRecipe) -> None:
        """Take down a setting's recipe, to be made when its trial starts."""
        self._orders[number] = recipe

    async def fulfil(self, number: int) -> tuple[float, float] | Failure:
        """Make an ordered setting; its objectives, or why not."""
        recipe = self._orders[number]
        failure = await self.make(recipe)
        if failure is None:
            try:
                measured = await asyncio.to_thread(recipe.open, self._store)
            except Exception as error:
                failure = _failure(error)
            else:
                self._failures.pop(number, None)
                return measured.objectives
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
            failure = _failure(error)
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
        cpus = threads_of(recipe) if recipe.kind == "models" else 1
        options = _build.options(num_cpus=cpus, num_gpus=recipe.gpus, scheduling_strategy="DEFAULT", name=recipe.label)
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
            return _failure(error)
        finally:
            self._submitted.discard(recipe.label)
            self._tally.running.pop(recipe.label, None)
        return failure

    async def progress(self, label: str, done: int, total: int) -> None:
        """A model in training says how far it is. Late words of one that has ended are ignored."""
        if label in self._submitted:
            self._tally.running[label] = (done, total)

    async def tally(self) -> Tally:
        """What has been done so far."""
        return self._tally


def open_workshop(records: Any, store: Store) -> Any:
    """A workshop as a Ray actor on the head node, which takes no CPU. records: a reference to the study's records."""
    actor = ray.remote(num_cpus=0, resources=HEAD_SLIVER, max_concurrency=10_000)(Workshop)
    return actor.remote([records], store)


@ray.remote(max_retries=3)
def _build(recipe: Recipe, records: Records, store: Store, workshop: list[Any]) -> Failure | None:
    report = _Reporter(workshop[0], recipe.label)
    if recipe.kind == "models":
        report(0, 1)
    # A recipe that wants more threads asks for them; what the last one of this process wanted must not matter.
    torch.set_num_threads(1)
    bench = Bench(records, store, device=_device(), report=report)
    return guarded(lambda: recipe.build(bench))


@ray.remote(max_retries=3)
def _build_in_group(recipe: Recipe, records: list[Any], store: Store, workshop: list[Any]) -> Failure | None:
    # Imported here: a group's machinery takes seconds to load, and few studies use it.
    from raymia.engine.group import build_in_group

    report = _Reporter(workshop[0], recipe.label)
    report(0, 1)
    return guarded(lambda: build_in_group(recipe, records[0], store, report))


def threads_of(model: Recipe) -> int:
    """CPU threads that each worker of a model uses, and reserves."""
    threads: int = model.ground.config.engine.threads_per_worker  # type: ignore[attr-defined]
    return threads


def _room(engine: EngineConfig) -> int:
    return described(joined=True).room(engine)


def guarded(build: Any) -> Failure | None:
    """Run a build; an error that another try would meet again comes back as a value, others are raised."""
    try:
        build()
    except _FINAL as error:
        return Failure(str(error), "", retry=False)
    return None


class _Reporter:
    """Tells the workshop how far a model is, now and then."""

    def __init__(self, workshop: Any, label: str) -> None:
        self._workshop = workshop
        self._label = label
        self._last = 0.0

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last >= _REPORT_SECONDS:
            self._last = time.monotonic()
            self._workshop.progress.remote(self._label, done, total)


def _device() -> torch.device:
    return torch.device("cuda" if ray.get_gpu_ids() else "cpu")


def _failure(error: Exception) -> Failure:
    """An error that another try may not meet, in one line and in full."""
    cause = getattr(error, "cause", None) or error
    line = " ".join(f"{type(cause).__name__}: {cause}".split())[:500]
    return Failure(line, "".join(traceback.format_exception(error)), retry=True)
