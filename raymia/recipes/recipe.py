"""A recipe says how one artifact is made, and from which others: the study is a graph of them.

Nothing here knows Ray: `make` builds a graph in this process; the engine builds the same recipes as tasks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from raymia.diffusion.drawing import Conveyor, in_process
from raymia.records.dataset import Records
from raymia.store import Inspection, Store
from raymia.training.rows import Fetch, in_order
from raymia.training.run import Alone, Group

Report = Callable[[int, int], None]

# The kinds of recipes that train a model, and are counted as one.
MODELS = frozenset({"models", "generators"})

# The kinds that keep a checkpoint while they are built.
CHECKPOINTED = MODELS | {"robustness"}


def _no_report(done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Bench:
    """Where a recipe is carried out: the records, the store, the workers that share it, the device, and who is told.

    conveyor: draws generated images; fetch: reads a training set that is too large for memory. Both in this process,
    unless the engine lends its own.
    """

    records: Records
    store: Store
    group: Group = Alone()  # noqa: RUF009 - a stateless value
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    report: Report = _no_report
    conveyor: Conveyor = in_process
    fetch: Fetch = in_order


@runtime_checkable
class Recipe(Protocol):
    """How an artifact is made.

    kind: generators, synthetic, models, signals, scores, quality, robustness or results. key: the content key; equal
    keys are the same artifact. label: for the live view. artifacts: the names it writes in the store. workers: workers
    that share it. threads, gpus: CPU threads and GPUs that each worker holds, 0 where the work is done by tasks that it
    starts.
    """

    @property
    def kind(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def artifacts(self) -> tuple[str, ...]: ...

    @property
    def workers(self) -> int: ...

    @property
    def threads(self) -> int: ...

    @property
    def gpus(self) -> float: ...

    def requires(self) -> Sequence["Recipe"]:
        """The recipes whose artifacts `build` reads."""
        ...

    def build(self, bench: Bench) -> None:
        """Make the artifacts and write them to the bench's store."""
        ...


def ready(recipe: Recipe, store: Store, inspection: Inspection) -> bool:
    """Whether all of a recipe's artifacts are there and undamaged; the inspection notes every damaged one."""
    intact = [inspection.intact(store, name) for name in recipe.artifacts]
    return all(intact)


def walk(recipes: Sequence[Recipe], seen: set[str] | None = None) -> Iterator[Recipe]:
    """Every recipe of the graphs once, requirements first."""
    seen = set() if seen is None else seen
    for recipe in recipes:
        if recipe.key not in seen:
            seen.add(recipe.key)
            yield from walk(recipe.requires(), seen)
            yield recipe


def make(recipe: Recipe, bench: Bench) -> None:
    """Build a recipe and whatever of its requirements is missing, one after another, in this process."""
    for step in walk([recipe]):
        if not ready(step, bench.store, Inspection()):
            step.build(bench)
