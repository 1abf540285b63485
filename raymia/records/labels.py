"""A label column to classes 0..K-1 and their names."""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raymia.errors import InputError


def encode_labels(
    dataset: str, column: pa.ChunkedArray, class_names: tuple[str, ...] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(int64[N] in 0..K-1, K names) of a column of integers or strings.

    With `class_names`, an integer is the place of its name and a string is the name. Without, the sorted distinct
    values are the classes and their text is the names. Raises InputError for a missing label or one that has no name.
    """
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise InputError(f"dataset {dataset}: row {row} has no label: label it or leave it out")
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    if class_names is None:
        order = sorted(values)
        class_names = tuple(str(value) for value in order)
        class_of = {value: place for place, value in enumerate(order)}
    else:
        names = class_names if pa.types.is_string(column.type) else range(len(class_names))
        class_of = {value: place for place, value in enumerate(names)}
    for value in values:
        if value not in class_of:
            raise InputError(
                f"dataset {dataset}: label {value!r} is none of the {len(class_names)} classes in its class_names: "
                "correct the labels, or the metadata"
            )
    places = np.array([class_of[value] for value in values], dtype=np.int64)
    return places[encoded.indices.to_numpy()], class_names


def parse_class_names(dataset: str, text: bytes) -> tuple[str, ...]:
    """The JSON list of the schema metadata `class_names`. Raises InputError unless it is one of different strings."""
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise InputError(f"dataset {dataset}: its metadata class_names must be a JSON list of different strings")
    return tuple(names)


def require_two_classes(dataset: str, labels: NDArray[np.int64], class_names: Sequence[str]) -> None:
    """Raises InputError where all labels are the same."""
    if len(present := np.unique(labels)) < 2:
        raise InputError(
            f"dataset {dataset}: all {len(labels)} records are of one class ({class_names[present[0]]!r}), and a "
            "classifier needs two: add another, or with a limit raise it or shuffle the rows"
        )
