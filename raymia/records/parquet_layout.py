"""What the columns of a data set's Parquet files must be, read from their schemas alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raymia.errors import InputError


@dataclass(frozen=True)
class Layout:
    """What every file of a data set must agree on. column: `image` or `features`. label: int64 or string."""

    column: str
    label: pa.DataType
    has_ids: bool
    class_names: bytes | None


def common_layout(dataset: str, paths: Sequence[str], files: Sequence[pq.ParquetFile]) -> Layout:
    """The one layout of all files. Raises InputError for a column that is missing, of another type, or not alike."""
    layouts = [_layout(dataset, file.schema_arrow) for file in files]
    for path, layout in zip(paths, layouts, strict=True):
        if layout != layouts[0]:
            raise InputError(
                f"dataset {dataset}: {path.rpartition('/')[2]} has other columns, types or class_names than "
                f"{paths[0].rpartition('/')[2]}: write all parts alike"
            )
    return layouts[0]


def _layout(dataset: str, schema: pa.Schema) -> Layout:
    if "label" not in schema.names:
        raise InputError(
            f"dataset {dataset}: it has no column 'label' (its columns: {', '.join(schema.names)}): rename or add it"
        )
    inputs = [name for name in ("image", "features") if name in schema.names]
    if len(inputs) != 1:
        problem = (
            "both an 'image' and a 'features' column: drop one"
            if inputs
            else "neither an 'image' nor a 'features' column"
        )
        raise InputError(f"dataset {dataset}: it has {problem} (its columns: {', '.join(schema.names)})")
    (column,) = inputs
    kind = schema.field(column).type
    if not (_holds_images(kind) if column == "image" else _holds_features(kind)):
        wanted = "encoded bytes, or a struct with them as 'bytes'" if column == "image" else "lists of numbers"
        raise InputError(f"dataset {dataset}: column {column!r} must hold {wanted}, and holds {kind}")
    has_ids = "id" in schema.names
    if has_ids and not pa.types.is_integer(schema.field("id").type):
        raise InputError(
            f"dataset {dataset}: column 'id' must hold integers, and holds {schema.field('id').type}: "
            "drop it to number the rows"
        )
    return Layout(
        column, _label_type(dataset, schema.field("label").type), has_ids, (schema.metadata or {}).get(b"class_names")
    )


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_images(kind.field("bytes").type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_features(kind: pa.DataType) -> bool:
    lists: tuple[Callable[[Any], bool], ...] = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(kind) for is_kind in lists):
        return False
    return bool(pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type))


def _label_type(dataset: str, kind: pa.DataType) -> pa.DataType:
    """What labels are read as: int64 or string."""
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_integer(plain) or pa.types.is_boolean(plain):
        return pa.int64()
    if pa.types.is_string(plain) or pa.types.is_large_string(plain):
        return pa.string()
    raise InputError(f"dataset {dataset}: column 'label' must hold integers or strings, and holds {kind}: convert it")
