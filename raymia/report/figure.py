"""The frontier figure: a panel an attack, test accuracy against attack AUC (the form of paper 1's Figures 5-8)."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raymia.metrics.comparison import SAME
from raymia.metrics.intervals import ALPHA
from raymia.metrics.results import UNDEFENDED, WORST
from raymia.report.panel import Looks, add_labels, draw_panel
from raymia.report.rows import (
    Row,
    attacks,
    defenses,
    hyperparameters,
    is_number,
    pooled,
    undefended,
    varied,
    words,
)
from raymia.report.style import INK, QUIET, looks, new_figure, plain_axes, write_figure

_PANEL_WIDTH, _PANEL_HEIGHT = 3.45, 2.75
_LEFT, _RIGHT, _GAP_ACROSS, _GAP_DOWN = 0.62, 0.2, 0.3, 0.42
_TITLE_LINE, _TEXT_LINE, _LEGEND_LINE = 0.27, 0.19, 0.215
_NARROWEST = 6.6
_LEGEND_HANDLE, _LEGEND_CHARACTER = 0.45, 0.068


def frontier_figure(rows: Sequence[Row], title: str, subtitle: str) -> Figure:
    """Draw the pooled rows of a study; `worst` gets a panel only where no single attack is in the rows.

    rows: of `frontier.csv`. subtitle: data set, sizes, seeds, epochs, interval. Intervals that are None are left
    out; a missing undefended model is said in the figure. Raises ValueError when no row holds a result.
    """
    panels = {attack: found for attack in attacks(rows) or [WORST] if (found := pooled(rows, attack))}
    if not panels:
        raise ValueError("no pooled row holds an AUC and a test accuracy: there is nothing to draw")
    drawn = [row for found in panels.values() for row in found]
    look = looks(defenses(drawn))
    columns = len(panels) if len(panels) <= 3 else 2 if len(panels) == 4 else 3
    figure, grid, text = _lay_out(len(panels), columns, title, subtitle, drawn, look)
    limits = _limits(drawn)
    for index, (axes, (attack, found)) in enumerate(zip(grid, panels.items(), strict=True)):
        _frame(axes, attack, index, columns, len(panels), limits)
        draw_panel(axes, found, attack, look)
        axes.set(xlim=limits[0], ylim=limits[1])
        add_labels(axes, found, attack, look)
    for x, y, line, style in text:
        figure.text(x, y, line, va="top", **style)
    return figure


def write_frontier(rows: Sequence[Row], folder: Path, title: str, subtitle: str) -> tuple[Path, Path]:
    """Write `frontier.png` and `frontier.svg` (equal rows give equal bytes); returns both paths."""
    return write_figure(frontier_figure(rows, title, subtitle), folder, "frontier")


def notes(rows: Sequence[Row]) -> list[str]:
    """What a reader must know to read the figure, as sentences."""
    kinds = {row["interval_kind"] for row in rows} - {None}
    over = " and ".join({"records": "records", "seeds": "target seeds"}.get(kind, kind) for kind in sorted(kinds))
    found = ["Upper left is better."]
    if over:
        found.append(f"Thin lines: {100 * (1 - ALPHA):.0f}% intervals over {over}.")
    if undefended(rows) is None:
        found.append("The undefended model is missing: nothing here is compared with it.")
    else:
        found.append("Gray bands: the intervals of undefended.")
    found.append("Small numbers: the hyperparameter.")
    if not any("dp_sgd" in row["defense"] for row in rows):
        found.append("no DP-SGD line")
    return found


def _lay_out(
    count: int, columns: int, title: str, subtitle: str, drawn: Sequence[Row], look: Looks
) -> tuple[Figure, list[Axes], list[tuple[float, float, str, dict[str, Any]]]]:
    """The figure with its empty panels and legend, and the lines of text to write: all sizes in inches."""
    rows_down = math.ceil(count / columns)
    width = max(_NARROWEST, _LEFT + _RIGHT + columns * _PANEL_WIDTH + (columns - 1) * _GAP_ACROSS)
    panel_width = (width - _LEFT - _RIGHT - (columns - 1) * _GAP_ACROSS) / columns
    characters = int(width * 15)
    head, foot = textwrap.wrap(subtitle, characters), textwrap.wrap("  ".join(notes(drawn)), characters)
    handles, names = _legend_entries(drawn, look)
    legend_columns = _legend_columns(names, width - _LEFT - _RIGHT)
    legend_lines = math.ceil(len(handles) / legend_columns)
    top = 0.15 + _TITLE_LINE + _TEXT_LINE * len(head) + 0.32
    legend_bottom = 0.1 + _TEXT_LINE * len(foot) + 0.12
    bottom = legend_bottom + _LEGEND_LINE * legend_lines + 0.62
    height = top + bottom + rows_down * _PANEL_HEIGHT + (rows_down - 1) * _GAP_DOWN
    figure = new_figure(width, height)
    grid: list[Axes] = []
    for index in range(count):
        left = _LEFT + (index % columns) * (panel_width + _GAP_ACROSS)
        down = height - top - (index // columns) * (_PANEL_HEIGHT + _GAP_DOWN) - _PANEL_HEIGHT
        box = (left / width, down / height, panel_width / width, _PANEL_HEIGHT / height)
        grid.append(figure.add_axes(box))
    figure.legend(
        handles,
        names,
        loc="lower left",
        bbox_to_anchor=(_LEFT / width, legend_bottom / height),
        borderpad=0,
        ncols=legend_columns,
        frameon=False,
        fontsize=8,
        handletextpad=0.5,
        columnspacing=1.6,
        borderaxespad=0,
    )
    x = _LEFT / width
    text: list[tuple[float, float, str, dict[str, Any]]] = [
        (x, 1 - 0.15 / height, title, {"fontsize": 12, "fontweight": "bold", "color": INK})
    ]
    for number, line in enumerate(head):
        y = 1 - (0.15 + _TITLE_LINE + number * _TEXT_LINE) / height
        text.append((x, y, line, {"fontsize": 8.5, "color": QUIET}))
    for number, line in enumerate(foot):
        y = (0.1 + _TEXT_LINE * (len(foot) - number)) / height
        text.append((x, y, line, {"fontsize": 8, "color": QUIET}))
    return figure, grid, text


def _frame(
    axes: Axes, attack: str, index: int, columns: int, count: int, limits: tuple[tuple[float, float], ...]
) -> None:
    plain_axes(axes)
    axes.set_gid(f"panel/{attack}")
    axes.set_title(f"({chr(ord('a') + index)}) {words(attack)}", loc="left", fontsize=9.5, color=INK)
    axes.set_title("↖ better", loc="right", fontsize=7.5, color=QUIET)
    if index % columns == 0:
        axes.set_ylabel("test accuracy (%)", fontsize=9, color=INK)
    else:
        axes.tick_params(labelleft=False)
    if index + columns >= count:
        axes.set_xlabel("attack AUC (0.5 = chance)", fontsize=9, color=INK)
    else:
        axes.tick_params(labelbottom=False)


def _limits(rows: Sequence[Row]) -> tuple[tuple[float, float], tuple[float, float]]:
    """The same limits for all panels: AUC from 0.5 (or below, where data lie there), accuracy around the data."""
    aucs = [row[name] for row in rows for name in ("auc", "auc_low", "auc_high") if row[name] is not None]
    accuracies = [
        100 * row[name]
        for row in rows
        for name in ("test_accuracy", "test_accuracy_low", "test_accuracy_high")
        if row[name] is not None
    ]
    pad = 0.04 * max(max(aucs) - min(0.5, *aucs), 0.1)
    left = 0.5 if min(aucs) >= 0.5 else min(aucs) - pad
    right = max(max(aucs) + pad, left + 0.1)
    spare = max(0.06 * (max(accuracies) - min(accuracies)), 0.5)
    return (left, right), (min(accuracies) - spare, max(accuracies) + spare)


def _legend_entries(rows: Sequence[Row], look: Looks) -> tuple[list[Line2D], list[str]]:
    handles, names = [], []
    for defense in defenses(rows):
        color, marker = look[defense]
        star = defense == UNDEFENDED
        handles.append(
            Line2D([], [], color=color, marker=marker, linewidth=0 if star else 1.3, markersize=11 if star else 5)
        )
        settings = [row for row in rows if row["defense"] == defense]
        names.append("none (undefended)" if star else words(defense) + _range(settings))
    if any(row["verdict"] == SAME for row in rows):
        handles.append(Line2D([], [], color=QUIET, marker="o", linewidth=0, markersize=5, markerfacecolor="white"))
        names.append("hollow: " + SAME)
    if any(row["on_frontier"] for row in rows):
        ring: dict[str, Any] = {
            "markersize": 9,
            "markerfacecolor": "none",
            "markeredgecolor": INK,
            "markeredgewidth": 1.1,
        }
        handles.append(Line2D([], [], marker="o", linewidth=0, markersize=9, **ring))
        names.append("ringed: on this attack's frontier")
    return handles, names


def _legend_columns(names: Sequence[str], width: float) -> int:
    """As many columns as fit the width, in inches; the legend fills them one after the other."""
    for columns in range(len(names), 1, -1):
        longest = [max(map(len, column)) for column in np.array_split(names, columns)]
        if sum(_LEGEND_HANDLE + _LEGEND_CHARACTER * length for length in longest) <= width:
            return columns
    return 1


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
