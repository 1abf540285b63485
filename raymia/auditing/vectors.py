"""Labels, memberships and ids as a user hands them in."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymia.auditing.stored_array import Array
from raymia.errors import InputError


def labels_of(name: str, array: Array, records: int, classes: int) -> NDArray[np.int64]:
    """int64[records] in 0 … classes - 1, or InputError."""
    _check_shape(name, array, (records,))
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{name}: holds {array.dtype}; give integers, the place of the true class in the logits")
    labels_N = array[:]
    wrong_N = (labels_N < 0) | (labels_N >= classes)
    if wrong_N.any():
        first = int(wrong_N.argmax())
        raise InputError(
            f"{name}: {labels_N[first]} of record {first} is out of range: {classes} classes have the labels 0 to "
            f"{classes - 1}"
        )
    return labels_N.astype(np.int64)


def memberships_of(name: str, array: Array, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """bool of this shape, or InputError. The integers 0 and 1 count as booleans."""
    _check_shape(name, array, shape)
    values = array[:]
    whole = np.issubdtype(array.dtype, np.integer) and bool(np.isin(values, (0, 1)).all())
    if array.dtype != np.bool_ and not whole:
        raise InputError(f"{name}: holds {array.dtype}; give booleans, True for a member")
    return values.astype(np.bool_)


def ids_of(array: Array | None, records: int) -> NDArray[Any]:
    """The ids, integers or strings, each once; 0 … records - 1 where there are none."""
    if array is None:
        return np.arange(records)
    _check_shape("id", array, (records,))
    ids_N = array[:]
    if not (np.issubdtype(ids_N.dtype, np.integer) or ids_N.dtype.kind in "UO"):
        raise InputError(f"id: holds {array.dtype}; give integers or strings")
    values, counts = np.unique(ids_N, return_counts=True)
    if len(values) < len(ids_N):
        raise InputError(f"id: {values[counts > 1][0]} stands more than once; give every record one of its own")
    return ids_N


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InputError(
            f"{name}: the shape is {list(array.shape)}, and the logits ask for {list(shape)}: give one for each record"
        )
