"""A table on disk as CSV: written whole or not at all, the same bytes for the same rows, read back with its types."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raymia.errors import InputError
from raymia.files import write_whole

# Columns of names: read back as text even where a name looks like a number.
TEXT_COLUMNS = frozenset({"setting", "defense", "attack", "population", "verdict", "interval_kind"})


def write_csv(rows: Sequence[dict[str, object]], path: Path | str) -> None:
    """Write rows that all have the same columns; None becomes an empty cell, floats keep every digit.

    The file appears complete or not at all. Raises InputError for no rows, or rows that differ in columns.
    """
    if not rows:
        raise InputError(f"{path}: no rows to write; finish at least one setting")
    names = list(rows[0])
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        if list(row) != names:
            raise InputError(f"{path}: rows with different columns; give every row the columns of the first")
        writer.writerow([_cell(value) for value in row.values()])
    write_whole({Path(path): text.getvalue().encode("utf-8")})


def read_csv(path: Path | str) -> list[dict[str, object]]:
    """The rows of `write_csv`: int, float, bool and None come back as they were; everything else is text.

    Outside TEXT_COLUMNS a text that looks like a number or a boolean comes back as one.
    """
    with Path(path).open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        return [{name: _value(name, cell) for name, cell in row.items()} for row in reader]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        return repr(float(value))
    return str(value)


def _value(name: str, cell: str) -> object:
    if cell == "":
        return None
    if name in TEXT_COLUMNS:
        return cell
    if cell in ("true", "false"):
        return cell == "true"
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
