"""A synthetic training set: the images chosen from a folder's shards, read without loading what is not asked for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raymia.diffusion.filter import KEPT, REASONS
from raymia.diffusion.shards import ROW_GROUP, Shape, class_of, images_of
from raymia.store import DamagedError, Store


@dataclass(frozen=True)
class ChosenRows:
    """What a set takes of one shard. name, sha256: of the file. rows: the chosen rows in it, ascending."""

    name: str
    sha256: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Work:
    """What drawing took this time. drawn: images that were not there yet. rebuilt: files that could not be used."""

    drawn: int = 0
    seconds: float = 0.0
    rebuilt: tuple[str, ...] = ()


@dataclass(frozen=True)
class Examples:
    """Rows of shards.

    ids, conditions (-1: none), labels: int64[n]. confidences: float32[n]. images: uint8[n, H, W, C].
    """

    ids: NDArray[np.int64]
    conditions: NDArray[np.int64]
    labels: NDArray[np.int64]
    confidences: NDArray[np.float32]
    images: NDArray[np.uint8]


@dataclass(frozen=True)
class SyntheticSet:
    """The chosen images, numbered in the order of their ids, and how many were drawn for them.

    key: of the folder's shards. shape: height, width, channels. classes: K. shards: those drawn for the set, lowest
    first. tally: images drawn of each class, by reason (see `raymia.diffusion.filter.REASONS`). work: what drawing took
    this time; it is no part of what the set is.
    """

    key: str
    shape: Shape
    classes: int
    shards: tuple[ChosenRows, ...]
    tally: tuple[tuple[int, ...], ...]
    work: Work = field(default_factory=Work, compare=False)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def files(self) -> dict[str, str]:
        """Digest of each shard by name: what the set's artifact vouches for, see `Store`."""
        return {shard.name: shard.sha256 for shard in self.shards}

    @property
    def drawn_per_class(self) -> NDArray[np.int64]:
        """Images drawn of each class."""
        return np.array(self.tally, dtype=np.int64).sum(axis=1)

    @property
    def kept_per_class(self) -> NDArray[np.int64]:
        """Images of each class that passed the filter; a quota takes the first of them."""
        return np.array(self.tally, dtype=np.int64)[:, KEPT]

    @property
    def pass_rates(self) -> NDArray[np.float64]:
        """Of each class, the part that passed; not a number where none was drawn."""
        drawn_per_class = self.drawn_per_class
        return np.divide(
            self.kept_per_class, drawn_per_class, out=np.full(self.classes, np.nan), where=drawn_per_class > 0
        )

    @property
    def rejected(self) -> dict[str, NDArray[np.int64]]:
        """Images of each class that did not pass, by reason."""
        tally_KR = np.array(self.tally, dtype=np.int64)
        return {reason: tally_KR[:, number] for number, reason in enumerate(REASONS) if number != KEPT}

    @property
    def images_per_second(self) -> float | None:
        """Of what was drawn this time; None where all was there."""
        return self.work.drawn / self.work.seconds if self.work.drawn and self.work.seconds else None

    @cached_property
    def index(self) -> NDArray[np.int64]:
        """Where each image is: int64[n, 2], the place of its shard in `shards`, and its row in that file."""
        places = np.repeat(np.arange(len(self.shards)), np.diff(self._starts))
        rows = np.array([row for shard in self.shards for row in shard.rows], dtype=np.int64)
        return np.stack([places, rows], axis=1)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(len(shard.rows) for shard in self.shards)])

    def ids(self, store: Store) -> NDArray[np.int64]:
        """The images' ids, int64[n], ascending."""
        return self._column(store, "id", np.int64)

    def labels(self, store: Store) -> NDArray[np.int64]:
        """The images' labels, int64[n]."""
        return self._column(store, "label", np.int64)

    def confidences(self, store: Store) -> NDArray[np.float32]:
        """The filter's confidence in each image, float32[n]."""
        return self._column(store, "confidence", np.float32)

    def images(self, store: Store) -> NDArray[np.uint8]:
        """All the images, uint8[n, H, W, C]."""
        return self.take(store, np.arange(len(self)))

    def take(self, store: Store, numbers: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """The images of these numbers, uint8[m, H, W, C], in their order; reads only the row groups they are in.

        Raises MissingError or DamagedError, which name the file; IndexError for a number that is not in the set.
        """
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(self)):
            raise IndexError(f"the synthetic set has images 0 to {len(self) - 1}")
        found = np.empty((len(numbers), *self.shape), dtype=np.uint8)
        places, rows = self.index[numbers].T
        for place in np.unique(places):
            wanted = np.flatnonzero(places == place)
            groups, positions = _groups(rows[wanted])
            with self._opened(store, self.shards[place]) as file:
                found[wanted] = images_of(file.read_row_groups(groups, columns=["image"]), self.shape)[positions]
        return found

    def rejected_examples(self, store: Store, per_class: int) -> Examples:
        """Rejected images with the lowest ids, up to `per_class` of each class (a shard holds only a few)."""
        lacking_K = np.minimum(per_class, sum(self.rejected.values(), np.zeros(self.classes, dtype=np.int64)))
        parts: list[pa.Table] = []
        for shard in self.shards:
            if not lacking_K.any():
                break
            with self._opened(store, shard) as file:
                chosen = _first_rejected(file.read(columns=["label", "condition", "reason"]), lacking_K)
                groups, positions = _groups(chosen)
                parts.append(file.read_row_groups(groups).take(positions))
        if not parts:
            nothing = np.zeros(0, dtype=np.int64)
            images = np.zeros((0, *self.shape), dtype=np.uint8)
            return Examples(nothing, nothing, nothing, nothing.astype(np.float32), images)
        rows = pa.concat_tables(parts)
        return Examples(
            ids=rows["id"].to_numpy(),
            conditions=rows["condition"].to_numpy(),
            labels=rows["label"].to_numpy(),
            confidences=rows["confidence"].to_numpy(),
            images=images_of(rows, self.shape),
        )

    def to_json(self) -> str:
        """For the set's artifact."""
        content = {
            "key": self.key,
            "shape": self.shape,
            "classes": self.classes,
            "shards": [[shard.name, shard.sha256, shard.rows] for shard in self.shards],
            "tally": self.tally,
            "work": [self.work.drawn, self.work.seconds, self.work.rebuilt],
        }
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "SyntheticSet":
        """The set that `to_json` wrote."""
        content = json.loads(text)
        height, width, channels = content["shape"]
        drawn, seconds, rebuilt = content["work"]
        return cls(
            key=content["key"],
            shape=(height, width, channels),
            classes=content["classes"],
            shards=tuple(ChosenRows(name, digest, tuple(rows)) for name, digest, rows in content["shards"]),
            tally=tuple(tuple(counts) for counts in content["tally"]),
            work=Work(drawn, seconds, tuple(rebuilt)),
        )

    def _column(self, store: Store, name: str, kind: type[Any]) -> NDArray[Any]:
        parts = [np.zeros(0, dtype=kind)]
        for shard in self.shards:
            if shard.rows:
                with self._opened(store, shard) as file:
                    parts.append(file.read(columns=[name])[name].to_numpy()[list(shard.rows)])
        return np.concatenate(parts)

    @contextmanager
    def _opened(self, store: Store, shard: ChosenRows) -> Iterator[pq.ParquetFile]:
        """A shard's file; whatever is wrong with it is said by its name."""
        try:
            with (
                store.open_file(shard.name) as stream,
                pq.ParquetFile(stream, page_checksum_verification=True, pre_buffer=False) as file,
            ):
                if (file.schema_arrow.metadata or {}).get(b"raymia.key") != self.key.encode():
                    raise DamagedError(f"shard {shard.name} is not the one this set was chosen from")
                yield file
        except (pa.ArrowException, OSError) as error:
            raise DamagedError(f"shard {shard.name} is damaged: {' '.join(str(error).split())[:200]}") from None


def _groups(rows: NDArray[np.int64]) -> tuple[list[int], NDArray[np.int64]]:
    """The row groups that hold these rows, and where the rows are among those groups' rows."""
    groups, place = np.unique(rows // ROW_GROUP, return_inverse=True)
    return groups.tolist(), place * ROW_GROUP + rows % ROW_GROUP


def _first_rejected(rows: pa.Table, lacking_K: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of rejected images of the classes that still lack some; takes them off `lacking_K`."""
    reason = rows["reason"].to_numpy()
    classes = class_of(rows["label"].to_numpy(), rows["condition"].to_numpy(), reason)
    chosen = []
    for row in np.flatnonzero(reason != KEPT):
        if lacking_K[classes[row]]:
            lacking_K[classes[row]] -= 1
            chosen.append(row)
    return np.array(chosen, dtype=np.int64)
