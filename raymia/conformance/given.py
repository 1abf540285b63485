"""Another tool's scores on the golden records, from a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from raymia.auditing.npz import read_npz
from raymia.conformance.golden import Scores
from raymia.errors import InputError

_NO_ATTACK = ("id", "member")


def read_given(path: Path, ids: NDArray[np.int64]) -> dict[str, Scores]:
    """float64[N] by attack, in the order of `ids`. Without an `id` the rows are taken to be in that order.

    Raises InputError for a file that cannot be read, other records, and scores that are no numbers.
    """
    columns = _columns(path)
    order = _order(path, columns.get("id"), ids)
    found = {}
    for name, values in columns.items():
        if name in _NO_ATTACK:
            continue
        if values.shape != ids.shape or not (
            np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)
        ):
            raise InputError(f"--check {path}: {name} must hold one number for each of the {len(ids)} golden records")
        if np.isnan(values.astype(np.float64)).any():
            raise InputError(f"--check {path}: {name} holds NaN: give every record a score")
        found[name] = values.astype(np.float64)[order]
    return found


def _columns(path: Path) -> Mapping[str, NDArray[Any]]:
    if path.suffix == ".npz":
        return {name: np.asarray(array) for name, array in read_npz(path, ()).items()}
    readers = {".parquet": pyarrow.parquet.read_table, ".csv": pyarrow.csv.read_csv}
    if path.suffix not in readers:
        raise InputError(f"--check {path}: give a file that ends in .parquet, .csv or .npz")
    try:
        table = readers[path.suffix](path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"--check {path}: cannot be read ({' '.join(str(error).split())})") from error
    return {name: table[name].to_numpy() for name in table.column_names}


def _order(path: Path, given: NDArray[Any] | None, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each golden record stands in the file."""
    if given is None:
        return np.arange(len(ids))
    if len(given) != len(ids) or set(given.tolist()) != set(ids.tolist()):
        raise InputError(f"--check {path}: its ids are not those of the {len(ids)} golden records: keep these")
    place = {number: row for row, number in enumerate(given.tolist())}
    return np.array([place[number] for number in ids.tolist()])
