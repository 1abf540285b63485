"""The frontier figure: a panel an attack, test accuracy against attack AUC (the form of paper 1's Figures 5-8)."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raymia.metrics.intervals import ALPHA
from raymia.metrics.populations import APART
from raymia.metrics.results import WORST
from raymia.privacy import MEANINGLESS
from raymia.report.legend import Legend
from raymia.report.panel import Looks, Panel, add_labels, draw_panel
from raymia.report.rows import (
    Row,
    attacks,
    defenses,
    pooled,
    settings_with,
    undefended,
    varied,
    words,
)
from raymia.report.style import INK, QUIET, looks, new_figure, plain_axes, write_figure

_PANEL_WIDTH, _PANEL_HEIGHT = 3.45, 2.75
_LEFT, _RIGHT, _GAP_ACROSS, _GAP_DOWN = 0.62, 0.2, 0.3, 0.42
_EDGE, _TITLE_LINE, _TEXT_LINE = 0.13, 0.27, 0.19
_NARROWEST = 6.6
_CHARACTERS_AN_INCH = 15.5


def frontier_figure(rows: Sequence[Row], title: str, subtitle: str) -> Figure:
    """Draw the pooled rows of a study: a panel an attack, its points over all members.

    Where settings have populations of members apart, each panel shows these as well, and `worst` gets a panel of its
    own; else it has one only where no single attack is in the rows.
    rows: of `frontier.csv`. subtitle: data set, sizes, seeds, epochs, interval. Intervals that are None are left
    out; a missing undefended model is said in the figure. Raises ValueError when no row holds a result.
    """
    panels = [panel for attack in _panel_attacks(rows) if (panel := _panel(rows, attack)).settings]
    if not panels:
        raise ValueError("no pooled row holds an AUC and a test accuracy: there is nothing to draw")
    drawn = [row for panel in panels for row in (*panel.settings, *panel.apart)]
    look = looks(defenses(drawn))
    sheet = _sheet(len(panels), subtitle, drawn, look)
    figure = new_figure(sheet.width, sheet.height)
    limits = _limits(drawn)
    for index, (axes, panel) in enumerate(zip(_add_panels(figure, sheet), panels, strict=True)):
        _frame(axes, panel.attack, index, sheet)
        draw_panel(axes, panel, look)
        axes.set(xlim=limits[0], ylim=limits[1])
        add_labels(axes, panel, look)
    sheet.legend.draw(figure, _LEFT / sheet.width, sheet.legend_bottom / sheet.height)
    _write_text(figure, sheet, title)
    return figure


def _panel_attacks(rows: Sequence[Row]) -> list[str]:
    single = attacks(rows)
    return [*single, WORST] if not single or settings_with(rows) else single


def _panel(rows: Sequence[Row], attack: str) -> Panel:
    settings = pooled(rows, attack)
    names = {row["setting"] for row in settings}
    apart = [row for population in APART for row in pooled(rows, attack, population) if row["setting"] in names]
    return Panel(attack, settings, apart if attack != WORST else [])


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
    if settings_with(rows):
        found.append(
            "Points of settings with x and + are over all members; x and + have their intervals in the tables."
        )
    if any(varied([row for row in rows if row["defense"] == defense]) for defense in defenses(rows)):
        found.append("Small numbers: the hyperparameter.")
    private = [row["epsilon"] for row in rows if row.get("epsilon") is not None]
    if not private:
        found.append("no DP-SGD line")
    elif max(private) > MEANINGLESS:
        found.append(f"DP-SGD's numbers are its ε; above {MEANINGLESS:g} it is no meaningful guarantee.")
    return found


@dataclass(frozen=True)
class _Sheet:
    """Sizes of a figure, in inches: the head's text, the panels, the legend, the foot's text, from top to bottom."""

    panels: int
    columns: int
    width: float
    head: list[str]
    foot: list[str]
    legend: Legend

    @property
    def panel_width(self) -> float:
        return (self.width - _LEFT - _RIGHT - (self.columns - 1) * _GAP_ACROSS) / self.columns

    @property
    def top(self) -> float:
        return _EDGE + _TITLE_LINE + _TEXT_LINE * len(self.head) + 0.32

    @property
    def legend_bottom(self) -> float:
        return _EDGE + _TEXT_LINE * len(self.foot) + 0.1

    @property
    def height(self) -> float:
        down = math.ceil(self.panels / self.columns)
        below = self.legend_bottom + self.legend.height + 0.62
        return self.top + down * _PANEL_HEIGHT + (down - 1) * _GAP_DOWN + below


def _sheet(panels: int, subtitle: str, drawn: Sequence[Row], look: Looks) -> _Sheet:
    columns = panels if panels <= 3 else 2 if panels == 4 else 3
    width = max(_NARROWEST, _LEFT + _RIGHT + columns * _PANEL_WIDTH + (columns - 1) * _GAP_ACROSS)
    characters = int((width - _LEFT) * _CHARACTERS_AN_INCH)
    head, foot = textwrap.wrap(subtitle, characters), textwrap.wrap("  ".join(notes(drawn)), characters)
    return _Sheet(panels, columns, width, head, foot, Legend.of(drawn, look, width - _LEFT - _RIGHT))


def _add_panels(figure: Figure, sheet: _Sheet) -> list[Axes]:
    found = []
    for index in range(sheet.panels):
        left = _LEFT + (index % sheet.columns) * (sheet.panel_width + _GAP_ACROSS)
        below = sheet.top + (index // sheet.columns) * (_PANEL_HEIGHT + _GAP_DOWN) + _PANEL_HEIGHT
        wide, high = sheet.panel_width / sheet.width, _PANEL_HEIGHT / sheet.height
        found.append(figure.add_axes((left / sheet.width, 1 - below / sheet.height, wide, high)))
    return found


def _write_text(figure: Figure, sheet: _Sheet, title: str) -> None:
    x = _LEFT / sheet.width
    figure.text(x, 1 - _EDGE / sheet.height, title, va="top", fontsize=12, fontweight="bold", color=INK)
    for number, line in enumerate(sheet.head):
        y = 1 - (_EDGE + _TITLE_LINE + number * _TEXT_LINE) / sheet.height
        figure.text(x, y, line, va="top", fontsize=8.5, color=QUIET)
    for number, line in enumerate(sheet.foot):
        y = (_EDGE + _TEXT_LINE * (len(sheet.foot) - number)) / sheet.height
        figure.text(x, y, line, va="top", fontsize=8, color=QUIET)


def _frame(axes: Axes, attack: str, index: int, sheet: _Sheet) -> None:
    plain_axes(axes)
    axes.set_gid(f"panel/{attack}")
    name = "worst attack" if attack == WORST else words(attack)
    axes.set_title(f"({chr(ord('a') + index)}) {name}", loc="left", fontsize=9.5, color=INK)
    axes.set_title("↖ better", loc="right", fontsize=7.5, color=QUIET)
    if index % sheet.columns == 0:
        axes.set_ylabel("test accuracy (%)", fontsize=9, color=INK)
    else:
        axes.tick_params(labelleft=False)
    if index + sheet.columns >= sheet.panels:
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
