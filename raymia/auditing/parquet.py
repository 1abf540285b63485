"""The answers of a Parquet file: one row a record, the columns below, to the arrays of an npz file.

`logits`: a list of C numbers, or a list of Q such lists; or a column for each class, `logits_0`, `logits_1`, …
`label`: integers. `member`: booleans. Optional: `id`; `reference_logits`, a list with the logits of each of M reference
models, and `reference_member`, a list of M booleans; `role`, where not every row is a record under attack: `target`,
`shadow` (answers of a shadow model, `member` says of which) or `population` (`member` does not matter).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raymia.auditing.stored_array import Array
from raymia.errors import InputError
from raymia.yaml_files import suggestion

_COLUMNS = ("logits", "label", "member", "id", "reference_logits", "reference_member", "role")
_CLASS_COLUMN = re.compile(r"logits_(\d+)")
_ROWS_AT_ONCE = 1024

# What each column of a role's rows is called as an array.
_NAMES: Mapping[str, Mapping[str, str]] = {
    "target": {
        "logits": "target_logits",
        "label": "labels",
        "member": "member",
        "id": "id",
        "reference_logits": "reference_logits",
        "reference_member": "reference_member",
    },
    "shadow": {"logits": "shadow_logits", "label": "shadow_labels", "member": "shadow_member"},
    "population": {
        "logits": "population_logits",
        "label": "population_labels",
        "reference_logits": "population_reference_logits",
    },
}
# Lists run over the models; arrays have the models first.
_MODELS_FIRST = ("reference_logits", "reference_member", "population_reference_logits")


def read_parquet(path: Path) -> dict[str, Array]:
    """The arrays by name, in memory; logits as float32. Raises InputError for columns that are not as above."""
    try:
        with pq.ParquetFile(path) as file:
            plain, by_class = _columns(path, file.schema_arrow.names)
            sizes = _sizes(path, file, "role" in plain)
            arrays = _Arrays(path, sizes)
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[*plain, *by_class]):
                _add(arrays, pa.Table.from_batches([batch]), by_class)
            return arrays.finished()
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is no readable Parquet file ({reason}); write it anew") from error


def _columns(path: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns to read: the plain ones, and one a class in the order of the classes."""
    numbered = sorted(int(found[1]) for name in names if (found := _CLASS_COLUMN.fullmatch(name)))
    if bool(numbered) == ("logits" in names) or numbered != list(range(len(numbered))):
        raise InputError(
            f"{path}: give the logits as one column 'logits' of lists, or as logits_0, logits_1, … without a gap"
        )
    by_class = [f"logits_{number}" for number in numbered]
    plain = [name for name in names if name not in by_class]
    for name in plain:
        if name not in _COLUMNS:
            raise InputError(f"{path}: unknown column {name!r}: {suggestion(name, [*_COLUMNS])}; rename or drop it")
    for name in ("label", "member"):
        if name not in plain:
            raise InputError(f"{path}: it has no column {name!r} (its columns: {', '.join(names)}); rename or add it")
    return plain, by_class


def _sizes(path: Path, file: pq.ParquetFile, has_roles: bool) -> dict[str, int]:
    """Rows of each role."""
    if not has_roles:
        return {"target": file.metadata.num_rows}
    counts = pc.value_counts(file.read(["role"])["role"]).to_pylist()
    sizes = {one["values"]: one["counts"] for one in counts}
    for role in sizes:
        if role not in _NAMES:
            raise InputError(f"{path}: role {role!r} is none of {', '.join(_NAMES)}; correct the column")
    return sizes


class _Arrays:
    """Arrays of a known number of records, filled part by part."""

    def __init__(self, path: Path, sizes: Mapping[str, int]) -> None:
        self.path, self._sizes = path, sizes
        self._arrays: dict[str, NDArray[Any]] = {}
        self._filled: dict[str, int] = {}

    def add(self, role: str, column: str, values: NDArray[Any]) -> None:
        """Some records' values, record by record."""
        name = _NAMES[role].get(column)
        if name is None or not len(values):
            return
        array = self._arrays.setdefault(name, np.empty((self._sizes[role], *values.shape[1:]), values.dtype))
        start = self._filled.get(name, 0)
        if values.shape[1:] != array.shape[1:]:
            raise InputError(
                f"{self.path}: column {column!r} has lists of the lengths {[*array.shape[1:]]} first and "
                f"{[*values.shape[1:]]} later: give every row the same"
            )
        array[start : start + len(values)] = values
        self._filled[name] = start + len(values)

    def finished(self) -> dict[str, Array]:
        for name, array in self._arrays.items():
            if self._filled[name] < len(array):
                raise InputError(f"{self.path}: {name} are given for some rows only: give them for all, or for none")
        return {name: np.moveaxis(a, 1, 0) if name in _MODELS_FIRST else a for name, a in self._arrays.items()}


def _add(arrays: _Arrays, table: pa.Table, by_class: Sequence[str]) -> None:
    """Add a table's rows, role by role."""
    for role, columns in _NAMES.items():
        if "role" in table.column_names:
            rows = table.filter(pc.equal(table["role"], role))
        elif role == "target":
            rows = table
        else:
            continue
        if by_class:
            logits = [_values(arrays, name, rows[name]) for name in by_class]
            arrays.add(role, "logits", np.stack(logits, axis=1))
        for column in columns:
            if column in rows.column_names and rows[column].null_count < len(rows):
                arrays.add(role, column, _values(arrays, column, rows[column]))


def _values(arrays: _Arrays, name: str, column: pa.ChunkedArray) -> NDArray[Any]:
    """A column as an array with an axis more for every level of lists."""
    values, shape = column.combine_chunks(), [len(column)]
    while _is_list(values.type):
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(lengths) > 1 or None in lengths:
            raise InputError(f"{arrays.path}: column {name!r} has lists of different lengths: give every row the same")
        shape.append(lengths[0] if lengths else 0)
        values = pc.list_flatten(values)
    if values.null_count:
        raise InputError(f"{arrays.path}: column {name!r} has missing values: fill them, or drop the column")
    if pa.types.is_floating(values.type):
        values = values.cast(pa.float32())
    found: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return found.reshape(shape)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
