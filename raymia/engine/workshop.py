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

from raymia.engine.cluster import HEAD_SLIVER
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
    """What the workshop has done: recipes by kind, and the models in training with (epoch, epochs)."""

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

    async def order(self, number: int, recipe: ResultRecipe) -> None:
        """Take down a setting's recipe, to be made when its trial starts."""
        self._orders[number] = recipe

    async def fulfil(self, number: int) -> tuple[float, float] | Failure:
        """Make an ordered setting; its objectives, or why not."""
        failure = await self.make(self._orders[number])
        if failure is not None:
            self._failures.setdefault(number, []).append(failure)
            return failure
        self._failures.pop(number, None)
        measured = await asyncio.to_thread(self._orders[number].open, self._store)
        return measured.objectives

    async def failures(self) -> dict[int, list[Failure]]:
        """Every failed try of the settings that failed, by number."""
        return self._failures

    async def make(self, recipe: Recipe) -> Failure | None:
        """Build a recipe and all it needs; None, or why not. A failed one may be asked for again."""
        while recipe.key in self._building:
            failure = await self._building[recipe.key]
            if failure is not None:
                return failure
            # The one in flight had the same key, but may have been asked for other snapshots.
        future: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._building[recipe.key] = future
        failure = Failure("the build was abandoned", "", retry=True)
        try:
            failure = await self._make(recipe)
        finally:
            del self._building[recipe.key]
            future.set_result(failure)
        return failure

    async def _make(self, recipe: Recipe) -> Failure | None:
        if await asyncio.to_thread(ready, recipe, self._store, self._inspection):
            self._tally.reused[recipe.kind] = self._tally.reused.get(recipe.kind, 0) + 1
            return None
        failures = await asyncio.gather(*(self.make(part) for part in recipe.requires()))
        failed = [failure for failure in failures if failure is not None]
        if failed:
            return failed[0]
        failure = await self._build(recipe)
        if failure is None:
            self._tally.built[recipe.kind] = self._tally.built.get(recipe.kind, 0) + 1
        return failure

    async def _build(self, recipe: Recipe) -> Failure | None:
        me = ray.get_runtime_context().current_actor
        group = recipe.workers > 1
        task = _build_in_group if group else _build
        options = task.options(
            num_cpus=0 if group else 1,
            num_gpus=0 if group else recipe.gpus,
            scheduling_strategy="DEFAULT",
            name=recipe.label,
        )
        if recipe.kind == "models":
            self._tally.running[recipe.label] = (0, 1)
        try:
            message: Failure | None = await options.remote(recipe, self._records, self._store, [me])
        except Exception as error:
            cause = getattr(error, "cause", None) or error
            return Failure(_one_line(cause), "".join(traceback.format_exception(error)), retry=True)
        finally:
            self._tally.running.pop(recipe.label, None)
        return message

    async def progress(self, label: str, done: int, total: int) -> None:
        """A model in training says how far it is. Late words of one that has ended are ignored."""
        if label in self._tally.running:
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
    bench = Bench(records, store, device=_device(), report=_Reporter(workshop[0], recipe.label))
    return guarded(lambda: recipe.build(bench))


@ray.remote(max_retries=3)
def _build_in_group(recipe: Recipe, records: Records, store: Store, workshop: list[Any]) -> Failure | None:
    # Imported here: a group's machinery takes seconds to load, and few studies use it.
    from raymia.engine.group import build_in_group

    report = _Reporter(workshop[0], recipe.label)
    return guarded(lambda: build_in_group(recipe, ray.put(records), store, report))


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


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
