"""The legend of the frontier figure: each defense with its range, and what hollow and ringed points say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raymia.metrics.comparison import SAME, kind_of
from raymia.metrics.populations import APART, DIRECT, INDIRECT
from raymia.metrics.results import UNDEFENDED
from raymia.report.rows import Row, defenses, hyperparameters, is_number, varied, words
from raymia.report.style import INK, POPULATION_MARKERS, QUIET

_APART_NAMES = {
    DIRECT: "the same setting on direct members (trained on)",
    INDIRECT: "the same setting on indirect members (not trained on)",
}

# Inches, for text of 8 points.
_LINE, _HANDLE, _CHARACTER = 0.215, 0.45, 0.068


@dataclass(frozen=True)
class Legend:
    """Entries laid out in columns; the height is in inches."""

    handles: list[Line2D]
    names: list[str]
    columns: int

    @classmethod
    def of(cls, rows: Sequence[Row], looks: Mapping[str, tuple[str, str]], width: float) -> Self:
        """The legend of these pooled rows, in as many columns as fit the width (inches)."""
        handles, names = _entries(rows, looks)
        return cls(handles, names, _columns(names, width))

    @property
    def height(self) -> float:
        return _LINE * -(-len(self.names) // self.columns)

    def draw(self, figure: Figure, left: float, bottom: float) -> None:
        """Draw it with its lower left corner at a place given in shares of the figure."""
        figure.legend(
            self.handles,
            self.names,
            loc="lower left",
            bbox_to_anchor=(left, bottom),
            ncols=self.columns,
            frameon=False,
            fontsize=8,
            handletextpad=0.5,
            columnspacing=1.6,
            borderpad=0,
            borderaxespad=0,
        )


def _columns(names: Sequence[str], width: float) -> int:
    # The entries fill one column after the other, the first ones the longer: as `array_split` does.
    for columns in range(len(names), 1, -1):
        longest = [max(map(len, column)) for column in np.array_split(names, columns)]
        if sum(_HANDLE + _CHARACTER * length for length in longest) <= width:
            return columns
    return 1


def _entries(rows: Sequence[Row], look: Mapping[str, tuple[str, str]]) -> tuple[list[Line2D], list[str]]:
    handles, names = [], []
    for defense in defenses(rows):
        color, marker = look[defense]
        star = defense == UNDEFENDED
        handles.append(
            Line2D([], [], color=color, marker=marker, linewidth=0 if star else 1.3, markersize=11 if star else 5)
        )
        settings = [row for row in rows if row["defense"] == defense]
        names.append("none (undefended)" if star else words(defense) + _range(settings))
    for population in APART:
        if any(row["population"] == population for row in rows):
            marker = POPULATION_MARKERS[population]
            handles.append(Line2D([], [], color=QUIET, marker=marker, linewidth=1, linestyle=":", markersize=4.5))
            names.append(_APART_NAMES[population])
    same = next((row["verdict"] for row in rows if row["verdict"] and kind_of(row["verdict"]) == SAME), None)
    if same is not None:
        handles.append(Line2D([], [], color=QUIET, marker="o", linewidth=0, markersize=5, markerfacecolor="white"))
        names.append("hollow: " + same)
    if any(row["on_frontier"] for row in rows):
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 1.1}
        handles.append(Line2D([], [], marker="o", linewidth=0, markersize=9, **ring))
        names.append("ringed: on this attack's frontier")
    return handles, names


def _range(settings: Sequence[Row]) -> str:
    """What the small numbers beside a defense's points are: ` (alpha 0.1 to 0.5)`."""
    names = varied(settings)
    if not names:
        shown = [f"{_last(name)} {value}" for name, value in hyperparameters(settings[0]).items()]
        return f" ({', '.join(shown)})" if shown else ""
    values = [hyperparameters(row).get(names[0]) for row in settings]
    if len(names) == 1 and all(is_number(value) for value in values):
        numbers = sorted(float(value) for value in values if value is not None)
        return f" ({_last(names[0])} {numbers[0]:g} to {numbers[-1]:g})"
    return f" ({', '.join(_last(name) for name in names)})"


def _last(name: str) -> str:
    return words(name.rsplit(".", 1)[-1])
