"""Records of Parquet files: `image` (encoded bytes) or `features` (lists of numbers), `label`, and an optional `id`.

Rows are taken file by file (sorted names) in their order; a `split` column does not matter, since the membership plan
makes its own. Reading the label and id columns and the schema is enough to find nearly everything that is wrong.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from raymia.errors import InputError
from raymia.records.decode import decode_features, decode_images, undecodable
from raymia.records.encoded import EncodedRecords
from raymia.records.labels import encode_labels, parse_class_names, require_two_classes
from raymia.records.parquet_layout import common_layout

ROWS_AT_ONCE = 256  # decoded together
CHUNK_BYTES = 8 << 20  # encoded, about what one task decodes
CHUNK_ROWS = 4096


@dataclass(frozen=True)
class ParquetChunk:
    """Rows start..start+rows of one row group of one file."""

    path: str
    row_group: int
    start: int
    rows: int


def parquet_records(dataset: str, filesystem: fs.FileSystem, paths: Sequence[str], limit: int | None) -> EncodedRecords:
    """The records of Parquet files, in the order given; the first `limit` of them.

    The classes are those of all rows, so a limit does not change them. Raises InputError for whatever the schema, the
    labels or the ids show to be unusable.
    """
    files = [_open(dataset, filesystem, path) for path in paths]
    layout = common_layout(dataset, paths, files)
    total = sum(file.metadata.num_rows for file in files)
    if not total:
        raise InputError(f"dataset {dataset}: it has no rows")
    names = None if layout.class_names is None else parse_class_names(dataset, layout.class_names)
    labels, class_names = encode_labels(dataset, _column(dataset, files, "label", layout.label), names)
    records = min(total, limit or total)
    require_two_classes(dataset, labels[:records], class_names)
    ids = np.arange(records, dtype=np.int64)
    if layout.has_ids:
        ids = _checked_ids(dataset, _column(dataset, files, "id", pa.int64()).slice(0, records))
    return EncodedRecords(
        dataset,
        labels[:records],
        ids,
        class_names,
        source=_source(dataset, files),
        chunks=tuple(_chunks(paths, files, layout.column, records)),
        decode=partial(decode_chunk, filesystem=filesystem, column=layout.column),
    )


def decode_chunk(chunk: ParquetChunk, *, filesystem: fs.FileSystem, column: str) -> Iterator[pa.Table]:
    """The chunk's rows as tables of `decode.DECODED`, at most `ROWS_AT_ONCE` in each."""
    try:
        for rows in _rows(chunk, filesystem, column):
            yield decode_features(rows) if column == "features" else decode_images(_encoded_images(rows))
    except (OSError, pa.ArrowInvalid) as error:
        yield undecodable(f"it or one soon after cannot be read from its file ({' '.join(str(error).split())})")


def _rows(chunk: ParquetChunk, filesystem: fs.FileSystem, column: str) -> Iterator[pa.Array]:
    with pq.ParquetFile(chunk.path, filesystem=filesystem) as file:
        position = 0
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[chunk.row_group], columns=[column]):
            rows = batch.column(0).slice(max(0, chunk.start - position))
            rows = rows.slice(0, max(0, chunk.start + chunk.rows - max(position, chunk.start)))
            position += len(batch)
            if len(rows):
                yield rows
            if position >= chunk.start + chunk.rows:
                return


def _encoded_images(column: pa.Array) -> list[bytes | None]:
    if pa.types.is_struct(column.type):
        column = (
            column.field("bytes") if not column.null_count else column.flatten()[column.type.get_field_index("bytes")]
        )
    images: list[bytes | None] = column.to_pylist()
    return images


def _open(dataset: str, filesystem: fs.FileSystem, path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, filesystem=filesystem)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"dataset {dataset}: {path.rpartition('/')[2]} is no readable Parquet file ({' '.join(str(error).split())})"
        ) from error


def _column(dataset: str, files: Sequence[pq.ParquetFile], name: str, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        columns = [file.read([name])[name].cast(kind) for file in files]
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"dataset {dataset}: column {name!r} cannot be read ({' '.join(str(error).split())})"
        ) from error
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], type=kind)


def _checked_ids(dataset: str, column: pa.ChunkedArray) -> NDArray[np.int64]:
    if column.null_count:
        raise InputError(f"dataset {dataset}: column 'id' has missing values: fill them, or drop the column")
    ids: NDArray[np.int64] = column.to_numpy()
    values, counts = np.unique(ids, return_counts=True)
    if len(values) < len(ids):
        raise InputError(
            f"dataset {dataset}: id {values[counts > 1][0]} stands more than once in column 'id': make ids unique, "
            "or drop the column"
        )
    return ids


def _source(dataset: str, files: Sequence[pq.ParquetFile]) -> str:
    given = (files[0].schema_arrow.metadata or {}).get(b"source", b"").decode(errors="replace")
    name = dataset.rstrip("/").rpartition("/")[2]
    return f"Parquet {name} ({given})" if given else f"Parquet {name}"


def _chunks(paths: Sequence[str], files: Sequence[pq.ParquetFile], column: str, records: int) -> Iterator[ParquetChunk]:
    """Cut the first `records` rows at row groups, and large ones into equal pieces."""
    for path, file in zip(paths, files, strict=True):
        for group in range(file.metadata.num_row_groups):
            rows = min(records, file.metadata.row_group(group).num_rows)
            records -= rows
            pieces = math.ceil(rows / _rows_of_a_chunk(file.metadata.row_group(group), column))
            bounds = np.linspace(0, rows, pieces + 1).astype(int).tolist()
            for start, stop in itertools.pairwise(bounds):
                yield ParquetChunk(path, group, start, stop - start)


def _rows_of_a_chunk(group: pq.RowGroupMetaData, column: str) -> int:
    columns = [group.column(index) for index in range(group.num_columns)]
    size = sum(part.total_uncompressed_size for part in columns if part.path_in_schema.split(".")[0] == column)
    return min(CHUNK_ROWS, max(1, CHUNK_BYTES * group.num_rows // max(size, 1)))
