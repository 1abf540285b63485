"""The legend of the frontier figure: each defense with its range, and what hollow and ringed points say."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raymia.metrics.comparison import SAME, kind_of
from raymia.metrics.populations import APART, DIRECT, INDIRECT
from raymia.metrics.results import UNDEFENDED
from raymia.report.rows import Row, defenses, hyperparameters, is_number, shown_value, varied, words
from raymia.report.style import INK, POPULATION_MARKERS, QUIET

_APART_NAMES = {
    DIRECT: "the same setting on direct members (trained on)",
    INDIRECT: "the same setting on indirect members (not trained on)",
}

# Inches, for text of 8 points.
_LINE, _HANDLE, _CHARACTER = 0.215, 0.45, 0.068


@dataclass(frozen=True)
class Says:
    """What points say besides their place. ringed: the column of rows that rings them, and its meaning. hollow: what
    is not distinguishable from undefended.
    """

    ringed: str = "on_frontier"
    meaning: str = "on this attack's frontier"
    hollow: str = ""


PLAIN = Says()


@dataclass(frozen=True)
class Legend:
    """Entries laid out in columns; the height is in inches."""

    handles: list[Line2D]
    names: list[str]
    columns: int

    @classmethod
    def of(cls, rows: Sequence[Row], looks: Mapping[str, tuple[str, str]], width: float, says: Says = PLAIN) -> Self:
        """The legend of these pooled rows, in as many columns as fit the width (inches), long names broken."""
        handles, names = _entries(rows, looks, says)
        names = [textwrap.fill(name, int((width - _HANDLE) / _CHARACTER)) for name in names]
        return cls(handles, names, _columns(names, width))

    @property
    def height(self) -> float:
        longest = max(sum(len(name.splitlines()) for name in column) for column in _split(self.names, self.columns))
        return _LINE * longest

    def draw(
        self, figure: Figure, left: float, y: float, corner: Literal["lower left", "upper left"] = "lower left"
    ) -> None:
        """Draw it with one of its corners at a place given in shares of the figure."""
        figure.legend(
            self.handles,
            self.names,
            loc=corner,
            bbox_to_anchor=(left, y),
            ncols=self.columns,
            frameon=False,
            fontsize=8,
            handletextpad=0.5,
            columnspacing=1.6,
            borderpad=0,
            borderaxespad=0,
        )


def _columns(names: Sequence[str], width: float) -> int:
    for columns in range(len(names), 1, -1):
        longest = [max(len(line) for name in column for line in name.splitlines()) for column in _split(names, columns)]
        if sum(_HANDLE + _CHARACTER * length for length in longest) <= width:
            return columns
    return 1


def _split(names: Sequence[str], columns: int) -> list[list[str]]:
    # The entries fill one column after the other, the first ones the longer: as `array_split` does.
    return [column.tolist() for column in np.array_split(names, columns)]


def _entries(rows: Sequence[Row], look: Mapping[str, tuple[str, str]], says: Says) -> tuple[list[Line2D], list[str]]:
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
        names.append(f"hollow: {says.hollow}{same}")
    if any(row.get(says.ringed) for row in rows):
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": INK, "markeredgewidth": 1.1}
        handles.append(Line2D([], [], marker="o", linewidth=0, markersize=9, **ring))
        names.append(f"ringed: {says.meaning}")
    return handles, names


def _range(settings: Sequence[Row]) -> str:
    """What the small numbers beside a defense's points are: ` (alpha 0.1 to 0.5)`."""
    names = varied(settings)
    if not names:
        # A setting's name has those that are not at their defaults; ε stands for all of DP-SGD's.
        row = settings[0]
        given = [name for name in hyperparameters(row) if f"{_key(name)}=" in row["setting"] or _key(name) == "ε"]
        shown = [f"{_last(name)} {shown_value(hyperparameters(row)[name])}" for name in given]
        return f" ({', '.join(shown)})" if shown else ""
    values = [hyperparameters(row).get(names[0]) for row in settings]
    if len(names) == 1 and all(is_number(value) for value in values):
        numbers = sorted(float(value) for value in values if value is not None)
        return f" ({_last(names[0])} {numbers[0]:g} to {numbers[-1]:g})"
    return f" ({', '.join(_last(name) for name in names)})"


def _last(name: str) -> str:
    return words(_key(name))


def _key(name: str) -> str:
    return name.rsplit(".", 1)[-1]
