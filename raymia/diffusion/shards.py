"""Generated images on disk: Parquet files that any tool reads, each the images of one range of ids.

A shard holds every kept image and, for the contact sheet, a few rejected ones; its schema's metadata says what made it,
and counts all that were drawn. The same rows give the same bytes. A file that is not exactly what was written, or was
made by something else, is never used.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raymia.diffusion.filter import DISAGREES, KEPT, REASONS, Judged
from raymia.errors import RunError
from raymia.keys import canonical
from raymia.store import DamagedError, MissingError, Store, file_digest

ROW_GROUP = 64
EXAMPLES = 2  # rejected images that a shard keeps of each class
NO_CONDITION = -1

_WRITER = f"pyarrow {pa.__version__}"

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ShardSpec:
    """What one shard must be.

    name: its file in the store. key: the content key of all that made it. number, first_id, count: the ids it covers.
    shape: height, width, channels. classes: K. conditional: whether image `id` is generated as class `id % K`.
    metadata: what made it, for people (generator, classifier, seed, guidance, sampler, steps, filter).
    """

    name: str
    key: str
    number: int
    first_id: int
    count: int
    shape: Shape
    classes: int
    conditional: bool
    metadata: Mapping[str, str] = field(default_factory=dict)

    def asked(self) -> pa.Table:
        """The images to draw: columns id and condition, int64."""
        ids = np.arange(self.first_id, self.first_id + self.count, dtype=np.int64)
        conditions = ids % self.classes if self.conditional else np.full(self.count, NO_CONDITION)
        return pa.table({"id": ids, "condition": conditions})

    def schema(self) -> pa.Schema:
        """The columns of the file."""
        columns = [
            ("id", pa.int64()),
            ("condition", pa.int64()),
            ("label", pa.int64()),
            ("confidence", pa.float32()),
            ("kept", pa.bool_()),
            ("reason", pa.int8()),
            ("image", pa.binary(int(np.prod(self.shape)))),
        ]
        return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])


@dataclass(frozen=True, eq=False)
class ShardReport:
    """What a finished shard holds. sha256: of the file. tally_KR: images drawn, int64, by class (see
    `class_of`) and reason. rows, labels: int64[n], the
    kept images' rows in the file, in the order of their ids, and their labels.
    """

    number: int
    name: str
    sha256: str
    tally_KR: NDArray[np.int64]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]


def with_images(asked: pa.Table, images: NDArray[np.uint8]) -> pa.Table:
    """What a sampling stage hands on: ids and conditions with their images, uint8[n, H, W, C]."""
    size = int(np.prod(images.shape[1:]))
    pixels = pa.py_buffer(np.ascontiguousarray(images, dtype=np.uint8))
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(images), [None, pixels])
    return asked.select(["id", "condition"]).append_column("image", column)


def with_verdicts(drawn: pa.Table, judged: Judged) -> pa.Table:
    """What a judging stage hands on: ids, conditions and images with the verdicts."""
    columns = {"label": judged.labels, "confidence": judged.confidence, "reason": judged.reason}
    for name, values in columns.items():
        drawn = drawn.append_column(name, pa.array(values))
    return drawn


def images_of(rows: pa.Table, shape: Shape) -> NDArray[np.uint8]:
    """The images of a table, uint8[n, H, W, C]; read-only where they need no copy."""
    size = int(np.prod(shape))
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * size, chunk.offset * size)
        for chunk in rows["image"].chunks
        if len(chunk)
    ]
    flat = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.uint8), *parts])
    return flat.reshape(-1, *shape)


def conditions_of(rows: pa.Table) -> NDArray[np.int64] | None:
    """The classes that images are generated as, int64[n]; None for a generator without."""
    conditions: NDArray[np.int64] = rows["condition"].to_numpy()
    return None if (conditions == NO_CONDITION).any() else conditions


def class_of(labels: NDArray[np.int64], conditions: NDArray[np.int64], reason: NDArray[np.int8]) -> NDArray[np.int64]:
    """The class that each image counts under: its label, or the condition that its label disagrees with."""
    return np.where(reason == DISAGREES, conditions, labels)


def write_shard(store: Store, spec: ShardSpec, judged: pa.Table) -> ShardReport:
    """Write a shard of judged images. Raises RunError where they are not the images that were asked for."""
    content = encode_shard(spec, judged, store.fresh)
    report = decode_shard(spec, content)
    store.write_file(spec.name, content)
    return report


def find_shard(store: Store, spec: ShardSpec) -> ShardReport:
    """A shard that is there already.

    Raises MissingError, or DamagedError where the file is not whole, or was made by something else.
    """
    return decode_shard(spec, store.read_file(spec.name), store.fresh)


def encode_shard(spec: ShardSpec, judged: pa.Table, fresh: str | None = None) -> bytes:
    """The file's bytes. fresh: the mark of the run it is drawn in, see Store."""
    if not judged["id"].equals(spec.asked()["id"]) or not judged["condition"].equals(spec.asked()["condition"]):
        raise RunError(f"{spec.name}: its stages gave {len(judged)} images that are not the {spec.count} asked for")
    reason = judged["reason"].to_numpy()
    classes = class_of(judged["label"].to_numpy(), judged["condition"].to_numpy(), reason)
    tally_KR = np.zeros((spec.classes, len(REASONS)), dtype=np.int64)
    np.add.at(tally_KR, (classes, reason), 1)
    rows = judged.append_column("kept", pa.array(reason == KEPT)).filter(pa.array(_stored(classes, reason)))
    rows = rows.select(spec.schema().names).cast(spec.schema()).combine_chunks()
    metadata = {
        **{f"raymia.{name}": value for name, value in spec.metadata.items()},
        **_identity(spec),
        "raymia.drawn": json.dumps(dict(zip(REASONS, tally_KR.T.tolist(), strict=True))),
        "raymia.writer": _WRITER,
        **({"raymia.fresh": fresh} if fresh is not None else {}),
    }
    metadata["raymia.sha256"] = _digest(metadata, rows)
    return _parquet(rows.replace_schema_metadata(metadata))


def decode_shard(spec: ShardSpec, content: bytes, fresh: str | None = None) -> ShardReport:
    """What a shard's file holds. Raises DamagedError, and MissingError where a fresh run has not drawn it yet."""
    try:
        rows = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read().combine_chunks()
        metadata = {name.decode(): value.decode() for name, value in (rows.schema.metadata or {}).items()}
        told = metadata.pop("raymia.sha256", "")
        whole = rows.schema.equals(spec.schema()) and _digest(metadata, rows) == told
        # What this writer wrote it would write again: so a change that no reader sees is found too.
        whole = whole and (metadata["raymia.writer"] != _WRITER or _parquet(rows) == content)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedError(f"shard {spec.name} is damaged: {' '.join(str(error).split())[:200]}") from None
    if not whole:
        raise DamagedError(f"shard {spec.name} is damaged")
    if {name: metadata.get(name) for name in _identity(spec)} != _identity(spec):
        raise DamagedError(f"shard {spec.name} was made by another generator, classifier, sampler or filter")
    if fresh is not None and metadata.get("raymia.fresh") != fresh:
        raise MissingError(f"shard {spec.name} is older than this fresh run")
    drawn = json.loads(metadata["raymia.drawn"])
    kept = np.flatnonzero(rows["kept"].to_numpy())
    return ShardReport(
        number=spec.number,
        name=spec.name,
        sha256=file_digest(content),
        tally_KR=np.array([drawn[reason] for reason in REASONS], dtype=np.int64).T,
        rows=kept,
        labels=rows["label"].to_numpy()[kept],
    )


def _identity(spec: ShardSpec) -> dict[str, str]:
    return {
        "raymia.key": spec.key,
        "raymia.shard": str(spec.number),
        "raymia.first_id": str(spec.first_id),
        "raymia.count": str(spec.count),
        "raymia.shape": json.dumps(spec.shape),
        "raymia.classes": str(spec.classes),
        "raymia.conditional": json.dumps(spec.conditional),
    }


def _stored(classes: NDArray[np.int64], reason: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Every kept image, and the first few rejected ones of each class."""
    stored = reason == KEPT
    for label in np.unique(classes[~stored]):
        stored[np.flatnonzero((classes == label) & (reason != KEPT))[:EXAMPLES]] = True
    return stored


def _digest(metadata: Mapping[str, str], rows: pa.Table) -> str:
    digest = hashlib.sha256(canonical(dict(metadata)).encode())
    for name in rows.column_names:
        column = rows[name]
        values = images_of(rows, (column.type.byte_width, 1, 1)) if name == "image" else column.to_numpy()
        digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _parquet(rows: pa.Table) -> bytes:
    """Every choice of the writer is made here, so that its bytes follow from the rows alone."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows,
        sink,
        row_group_size=ROW_GROUP,
        version="2.6",
        data_page_version="1.0",
        data_page_size=2**20,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        store_schema=True,
    )
    return sink.getvalue().to_pybytes()
