"""The golden arrays, and the scores expected of them: the same bytes on every machine, since they are kept as files."""

import csv
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ANSWERS = "golden.npz"
MODEL = "golden_model.npz"
EXPECTED = "expected.csv"

Arrays = Mapping[str, NDArray[Any]]
Scores = NDArray[np.float64]


def data_file(name: str) -> Path:
    """The path of one of the three."""
    return Path(str(files("raymia.conformance") / name))


def read_arrays(name: str) -> Arrays:
    """`ANSWERS`: an audit's arrays (`raymia.audit --signals`). `MODEL`: weights [C, F], bias [C], inputs [N, F] and
    labels [N] of a linear model, for gradient norms.
    """
    with np.load(data_file(name), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def read_expected() -> dict[str, Scores]:
    """float64[N] by attack, in the order of the golden records."""
    with data_file(EXPECTED).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, strict=True))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name not in ("id", "member")}


def expected_csv(arrays: Arrays, scores: Mapping[str, Scores]) -> str:
    """The text of `EXPECTED`: `id`, `member` and a column an attack, every digit of the numbers."""
    lines = [["id", "member", *scores]]
    for row, (number, member) in enumerate(zip(arrays["id"], arrays["member"], strict=True)):
        lines.append([str(number), str(bool(member)).lower(), *(repr(float(one[row])) for one in scores.values())])
    return "".join(",".join(_quoted(line)) + "\n" for line in lines)


def _quoted(cells: Sequence[str]) -> list[str]:
    if any("," in cell or '"' in cell for cell in cells):
        raise ValueError("names of attacks have no commas")
    return list(cells)
