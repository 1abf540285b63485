"""Drawing a synthetic set: shard by shard, until every class has its quota of images that pass the filter.

Image `id` is always the same image, and shard k always holds the ids from kB on. The set is the lowest passing ids of
each class among the fewest first shards that have enough: so it does not depend on who drew which shard, when, or how
often the drawing was killed.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.stats import beta

from raymia.diffusion.filter import KEPT, REASONS
from raymia.diffusion.shards import Shape, ShardReport, ShardSpec, find_shard, write_shard
from raymia.diffusion.synthetic_set import ChosenRows, SyntheticSet, Work
from raymia.errors import InputError, RunError, ShortfallError
from raymia.store import DamagedError, MissingError, Store

# A round ends as soon as the set is complete, so it may ask for more than the pass rate so far makes likely, but for no
# more than a few times what is known: starting another is what costs (processes, networks).
_MARGIN, _GROWTH = 1.5, 3
# Drawing is given up where a pass rate that would still reach the quota is less likely than this.
_HOPELESS = 1e-6

Stage = Callable[[pa.Table], pa.Table]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class ShardJob:
    """How the shards of a folder are made; travels to the processes that make them.

    folder: its name in the store. key: the content key of all that decides the images and verdicts. shard_size: B.
    shape: height, width, channels. classes: K. conditional: whether image `id` is generated as class `id % K`.
    per_class: the quota; None draws exactly `max_images` and takes all that pass. metadata: for the files' schema.
    sample_stage, judge_stage: make the two stages, once in each process that runs them; they must pickle. A stage maps
    a shard's table to another: ids and conditions to images (`with_images`), images to verdicts (`with_verdicts`).
    threads: torch's, in each of these processes (another number gives other bytes). gpus: of each that samples.
    """

    folder: str
    key: str
    shard_size: int
    shape: Shape
    classes: int
    conditional: bool
    per_class: int | None
    max_images: int
    sample_stage: Callable[[], Stage]
    judge_stage: Callable[[], Stage]
    metadata: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.per_class is not None and self.per_class * self.classes > self.max_images:
            raise InputError(
                f"diffusion.max_images: {self.max_images:,} cannot hold {self.per_class:,} images of each of "
                f"{self.classes} classes; raise it, or lower the images wanted of a class"
            )

    @property
    def shards(self) -> int:
        """How many there may be."""
        return -(-self.max_images // self.shard_size)

    def shard(self, number: int) -> ShardSpec:
        """One of them. The last may be cut short by `max_images`, and then has a name of its own."""
        first = number * self.shard_size
        count = min(self.shard_size, self.max_images - first)
        cut = "" if count == self.shard_size else f"-first-{count}"
        return ShardSpec(
            name=f"{self.folder}/{number:06}{cut}.parquet",
            key=self.key,
            number=number,
            first_id=first,
            count=count,
            shape=self.shape,
            classes=self.classes,
            conditional=self.conditional,
            metadata=self.metadata,
        )


class Conveyor(Protocol):
    """Draws shards, judges them and writes them to the store; reports them as they are finished, in any order.

    Closing the generator ends the work early. Raises RunError where a stage fails.
    """

    def __call__(self, numbers: Sequence[int], job: ShardJob, store: Store) -> Generator[ShardReport, None, None]: ...


def in_process(numbers: Sequence[int], job: ShardJob, store: Store) -> Generator[ShardReport, None, None]:
    """A conveyor without helpers: one shard after another, here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        sample, judge = job.sample_stage(), job.judge_stage()
        for number in numbers:
            spec = job.shard(number)
            yield write_shard(store, spec, judge(sample(spec.asked())))
    finally:
        torch.set_num_threads(threads)


def _nobody(done: int, total: int) -> None:
    """Progress that nobody watches."""


def draw_set(store: Store, job: ShardJob, conveyor: Conveyor = in_process, report: Report = _nobody) -> SyntheticSet:
    """Draw what is missing and choose the set. report: is told the images that count so far, and how many are wanted.

    Raises ShortfallError where a class cannot reach its quota, as soon as that is evident, or where nothing passes.
    """
    prefix = Prefix(job)
    drawn, seconds, rebuilt = 0, 0.0, []
    while not prefix.complete:
        missing = []
        for number in range(len(prefix.shards), round_end(job, prefix)):
            spec = job.shard(number)
            try:
                prefix.add(find_shard(store, spec))
            except DamagedError:
                rebuilt.append(spec.name)
                missing.append(number)
            except MissingError:
                missing.append(number)
            report(prefix.done, prefix.wanted)
        started = time.perf_counter()
        for finished in _until_complete(missing, job, store, conveyor, prefix):
            drawn += job.shard(finished.number).count
            report(prefix.done, prefix.wanted)
        seconds += time.perf_counter() - started
    return prefix.chosen(Work(drawn, seconds, tuple(rebuilt)))


def _until_complete(
    missing: Sequence[int], job: ShardJob, store: Store, conveyor: Conveyor, prefix: "Prefix"
) -> Generator[ShardReport, None, None]:
    """Draw these shards, adding them to the prefix, until it is complete."""
    if not missing or prefix.complete:
        return
    left = set(missing)
    with closing(conveyor(missing, job, store)) as stream:
        for finished in stream:
            left.discard(finished.number)
            prefix.add(finished)
            yield finished
            if prefix.complete:
                return
    if left:
        raise RunError(f"{job.folder}: the stream ended without shards {sorted(left)[:10]}; run the command again")


def round_end(job: ShardJob, prefix: "Prefix") -> int:
    """The shard before which the next round ends: first as if a third passed, then by the pass rates so far."""
    if job.per_class is None:
        return job.shards
    there = len(prefix.shards)
    if not there:
        return min(job.shards, _GROWTH * -(-job.per_class * job.classes // job.shard_size))
    lacking_K = np.maximum(job.per_class - prefix.kept, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shards_K = np.where(lacking_K > 0, lacking_K / (prefix.kept / there), 0)
    more = min(np.ceil(_MARGIN * shards_K.max()), _GROWTH * there)
    return min(job.shards, there + max(1, int(more)))


class Prefix:
    """The first shards without a gap, as many as the set needs; those after a gap wait until it is filled."""

    def __init__(self, job: ShardJob) -> None:
        self._job = job
        self._waiting: dict[int, ShardReport] = {}
        self.shards: list[ShardReport] = []
        self.tally_KR: NDArray[np.int64] = np.zeros((job.classes, len(REASONS)), dtype=np.int64)

    @property
    def kept(self) -> NDArray[np.int64]:
        """Images of each class that passed, int64[K]."""
        return self.tally_KR[:, KEPT]

    @property
    def drawn(self) -> int:
        """Images drawn for it."""
        return int(self.tally_KR.sum())

    @property
    def complete(self) -> bool:
        """Whether the set can be chosen."""
        if self._job.per_class is None:
            return len(self.shards) == self._job.shards
        return bool((self.kept >= self._job.per_class).all())

    @property
    def done(self) -> int:
        """Images that count towards what is wanted."""
        if self._job.per_class is None:
            return self.drawn
        return int(np.minimum(self.kept, self._job.per_class).sum())

    @property
    def wanted(self) -> int:
        """The images of all quotas; without them, the images to draw."""
        return self._job.max_images if self._job.per_class is None else self._job.per_class * self._job.classes

    def add(self, report: ShardReport) -> None:
        """Count a finished shard. Raises ShortfallError once the first shards show that the set cannot be completed."""
        self._waiting[report.number] = report
        while not self.complete and len(self.shards) in self._waiting:
            shard = self._waiting.pop(len(self.shards))
            self.shards.append(shard)
            self.tally_KR += shard.tally_KR
            self._check_hope()

    def chosen(self, work: Work) -> SyntheticSet:
        """The set, once complete."""
        taken_K = np.zeros(self._job.classes, dtype=np.int64)
        rows = [self._fitting(shard, taken_K) for shard in self.shards]
        return SyntheticSet(
            key=self._job.key,
            shape=self._job.shape,
            classes=self._job.classes,
            shards=tuple(
                ChosenRows(shard.name, shard.sha256, tuple(chosen.tolist()))
                for shard, chosen in zip(self.shards, rows, strict=True)
            ),
            tally=tuple(map(tuple, self.tally_KR.tolist())),
            work=work,
        )

    def _fitting(self, shard: ShardReport, taken_K: NDArray[np.int64]) -> NDArray[np.int64]:
        """The shard's rows that still fit into the quotas; counts them in `taken_K`."""
        if self._job.per_class is None:
            return shard.rows
        fits = np.zeros(len(shard.rows), dtype=bool)
        for label in np.unique(shard.labels):
            of_label = np.flatnonzero(shard.labels == label)[: self._job.per_class - taken_K[label]]
            fits[of_label] = True
            taken_K[label] += len(of_label)
        return shard.rows[fits]

    def _check_hope(self) -> None:
        quota, left = self._job.per_class, self._job.max_images - self.drawn
        if quota is None:
            if not left and not self.kept.any():
                raise ShortfallError(f"none of the {self.drawn:,} images drawn passed the filter: {_REMEDY}")
            return
        # An image drawn is one of this class that passes with at most this probability (Clopper and Pearson).
        highest_K = np.where(
            self.kept < self.drawn,
            beta.ppf(1 - _HOPELESS, self.kept + 1, np.maximum(self.drawn - self.kept, 1)),
            1,
        )
        hopeless = np.flatnonzero((self.kept < quota) & (self.kept + highest_K * left < quota))
        if len(hopeless):
            has = ", ".join(f"class {label} has {self.kept[label]}" for label in hopeless[:5])
            more = f" and {len(hopeless) - 5} more classes fall short" if len(hopeless) > 5 else ""
            raise ShortfallError(
                f"{has} of the {quota} images wanted{more}, after {self.drawn:,} drawn of at most "
                f"{self._job.max_images:,}: {_REMEDY}"
            )


_REMEDY = (
    "lower the filter's threshold or the images wanted of a class, train the generator or the classifier longer, or "
    "raise diffusion.max_images"
)
