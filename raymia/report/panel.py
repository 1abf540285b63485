"""One panel of a frontier figure: a quantity against another, by default test accuracy against an attack's AUC."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from raymia.metrics.comparison import SAME, kind_of
from raymia.metrics.populations import APART
from raymia.metrics.results import UNDEFENDED
from raymia.report.labels import Box, place
from raymia.report.quantity import AUC, TEST_ACCURACY, Quantity
from raymia.report.rows import (
    Row,
    defenses,
    hyperparameters,
    is_number,
    shown_value,
    undefended,
    varied,
)
from raymia.report.style import INK, POPULATION_MARKERS, QUIET

LABEL_SIZE = 6.5
_MARKER_AREA = 26.0
_STAR_AREA = 110.0
_RING_AREA = 95.0
_APART_AREA = 17.0

# In points: what a label keeps clear of.
_MARKER_REACH, _RING_REACH, _LINE_STEP = 3.2, 5.5, 2.0

Looks = Mapping[str, tuple[str, str]]
Spot = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """Pooled rows of one attack, and what is drawn of them.

    name: begins the ids of its artists; in the frontier figure the attack. settings: over all members (or `worst`).
    apart: over one population, if a setting has any. ringed: the column that says which points are.
    """

    name: str
    settings: Sequence[Row]
    apart: Sequence[Row] = ()
    x: Quantity = AUC
    y: Quantity = TEST_ACCURACY
    ringed: str = "on_frontier"

    def point(self, row: Row) -> Spot:
        """Where a row stands, in units of the axes."""
        return self.x.value(row), self.y.value(row)

    def points(self, rows: Sequence[Row]) -> tuple[list[float], list[float]]:
        """The same of several rows, the axes apart."""
        return [self.x.value(row) for row in rows], [self.y.value(row) for row in rows]


def draw_panel(axes: Axes, panel: Panel, looks: Looks) -> None:
    """Draw a panel: bands and star of undefended, a line a defense, intervals, populations apart, rings.

    Artists carry `name/defense/part` as their id, in the SVG too. The axes' limits must be set before `add_labels`.
    """
    rows, name = panel.settings, panel.name
    if panel.x.chance is not None:
        style: dict[str, Any] = {"color": QUIET, "linewidth": 0.8, "linestyle": (0, (4, 3)), "zorder": 1}
        axes.axvline(panel.x.chance, gid=f"{name}/chance", **style)
    base = undefended(rows)
    if base is not None:
        _bands(axes, panel, base)
    for defense in defenses(rows):
        settings = [row for row in rows if row["defense"] == defense]
        _defense(axes, panel, settings, f"{name}/{defense}", *looks[defense])
        apart = [row for row in panel.apart if row["defense"] == defense]
        if apart:
            _populations(axes, panel, settings, apart, f"{name}/{defense}", looks[defense][0])
    ringed = [row for row in rows if row.get(panel.ringed)]
    if ringed:
        area = [_RING_AREA * (3 if row["defense"] == UNDEFENDED else 1) for row in ringed]
        ring: dict[str, Any] = {"facecolors": "none", "edgecolors": INK, "linewidths": 1.1, "zorder": 6}
        axes.scatter(*panel.points(ringed), s=area, gid=f"{name}/frontier", **ring)


def add_labels(axes: Axes, panel: Panel, looks: Looks) -> None:
    """Write the varied hyperparameter beside the points where there is room; the ends of each line come first."""
    rows = panel.settings
    wanted = [(row, text) for row, text in _label_texts(rows) if text]
    scale = 72.0 / axes.figure.dpi
    corners = axes.transAxes.transform([(0, 0), (1, 1)]) * scale
    frame = Box(corners[0][0], corners[0][1], corners[1][0], corners[1][1])
    spots = {id(row): _spot(axes, panel, row) for row in rows}
    taken = [box for row in rows for box in _around(spots[id(row)], ringed=bool(row.get(panel.ringed)))]
    for row in panel.apart:
        owner = next(each for each in rows if each["setting"] == row["setting"])
        spot = _spot(axes, panel, row)
        taken += [*_around(spot, ringed=False), *_along(spots[id(owner)], spot)]
    taken += [box for first, second in _joined(rows) for box in _along(spots[id(first)], spots[id(second)])]
    sizes = [(*spots[id(row)], 0.6 * LABEL_SIZE * len(text), 0.8 * LABEL_SIZE) for row, text in wanted]
    for (row, text), box in zip(wanted, place(sizes, taken, frame), strict=True):
        if box is None:
            continue
        x, y = spots[id(row)]
        axes.annotate(
            text,
            panel.point(row),
            xytext=((box.left + box.right) / 2 - x, (box.bottom + box.top) / 2 - y),
            textcoords="offset points",
            ha="center",
            va="center_baseline",
            fontsize=LABEL_SIZE,
            color=looks[row["defense"]][0],
            zorder=7,
            gid=f"{panel.name}/{row['defense']}/label",
        )


def curves(settings: Sequence[Row]) -> list[list[Row]]:
    """The settings of one defense as lines: one for each combination of the hyperparameters that are not numbers.

    Where several numbers vary (a random search), no line tells the truth, and each setting stands alone.
    """
    names = varied(settings)
    values = [hyperparameters(row) for row in settings]
    numeric = [name for name in names if all(is_number(each.get(name)) for each in values)]
    if len(numeric) != 1:
        return [[row] for row in settings]
    groups: dict[str, list[Row]] = {}
    for row, each in zip(settings, values, strict=True):
        groups.setdefault(str([each.get(name) for name in names if name not in numeric]), []).append(row)
    return list(groups.values())


def _bands(axes: Axes, panel: Panel, base: Row) -> None:
    style: dict[str, Any] = {"color": "#000000", "alpha": 0.07, "linewidth": 0, "zorder": 0.5}
    for quantity, span in ((panel.y, axes.axhspan), (panel.x, axes.axvspan)):
        interval = quantity.interval(base)
        if interval is not None:
            span(*interval, gid=f"{panel.name}/{UNDEFENDED}/{quantity.part}_band", **style)


def _defense(axes: Axes, panel: Panel, settings: Sequence[Row], gid: str, color: str, marker: str) -> None:
    _intervals(axes, panel, settings, gid, color)
    for curve in curves(settings):
        x, y = panel.points(curve)
        axes.plot(x, y, color=color, linewidth=1.3, alpha=0.9, zorder=3, gid=f"{gid}/line")
    x, y = panel.points(settings)
    faces = ["white" if kind_of(row["verdict"]) == SAME else color for row in settings]
    star = marker == "*"
    axes.scatter(
        x,
        y,
        s=_STAR_AREA if star else _MARKER_AREA,
        marker=marker,
        facecolors=faces,
        edgecolors="white" if star else color,
        linewidths=0.6 if star else 1.1,
        zorder=8 if star else 5,
        gid=f"{gid}/points",
    )


def _populations(axes: Axes, panel: Panel, settings: Sequence[Row], apart: Sequence[Row], gid: str, color: str) -> None:
    """The populations of each setting, small, at its height (its accuracy is the same), joined to its point."""
    aucs = {row["setting"]: [row["auc"]] for row in settings}
    for row in apart:
        aucs[row["setting"]].append(row["auc"])
    joined = [row for row in settings if len(aucs[row["setting"]]) > 1]
    heights = [panel.y.value(row) for row in joined]
    lows, highs = ([end(aucs[row["setting"]]) for row in joined] for end in (min, max))
    style: dict[str, Any] = {"color": color, "linewidth": 1.0, "linestyle": (0, (1, 1.6)), "zorder": 2.5}
    axes.hlines(heights, lows, highs, gid=f"{gid}/populations", **style)
    for population in APART:
        x, y = panel.points([row for row in apart if row["population"] == population])
        marker = POPULATION_MARKERS[population]
        axes.scatter(
            x, y, s=_APART_AREA, marker=marker, color=color, linewidths=1.1, zorder=4, gid=f"{gid}/{population}"
        )


def _intervals(axes: Axes, panel: Panel, settings: Sequence[Row], gid: str, color: str) -> None:
    """Both intervals of each setting that has them, as thin lines through its point."""
    across = [(row, found) for row in settings if (found := panel.x.interval(row)) is not None]
    along = [(row, found) for row in settings if (found := panel.y.interval(row)) is not None]
    style: dict[str, Any] = {"color": color, "linewidth": 0.8, "alpha": 0.4, "zorder": 2}
    if across:
        heights = [panel.y.value(row) for row, _ in across]
        lows, highs = zip(*(found for _, found in across), strict=True)
        axes.hlines(heights, lows, highs, gid=f"{gid}/{panel.x.part}_intervals", **style)
    if along:
        places = [panel.x.value(row) for row, _ in along]
        lows, highs = zip(*(found for _, found in along), strict=True)
        axes.vlines(places, lows, highs, gid=f"{gid}/{panel.y.part}_intervals", **style)


def _spot(axes: Axes, panel: Panel, row: Row) -> Spot:
    """Where a row's point lies in the figure, in points (1/72 inch)."""
    x, y = axes.transData.transform(panel.point(row)) * 72.0 / axes.figure.dpi
    return float(x), float(y)


def _joined(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Neighbors on a line."""
    found: list[tuple[Row, Row]] = []
    for defense in defenses(rows):
        for curve in curves([row for row in rows if row["defense"] == defense]):
            found += itertools.pairwise(curve)
    return found


def _around(spot: Spot, *, ringed: bool) -> list[Box]:
    reach = _RING_REACH if ringed else _MARKER_REACH
    return [Box(spot[0] - reach, spot[1] - reach, spot[0] + reach, spot[1] + reach)]


def _along(start: Spot, end: Spot) -> list[Box]:
    """Small boxes strung along a line: a label may touch none of them."""
    steps = max(2, math.ceil(math.dist(start, end) / _LINE_STEP))
    shares = [number / steps for number in range(1, steps)]
    middles = [(start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1])) for t in shares]
    return [Box(x - 0.5, y - 0.5, x + 0.5, y + 0.5) for x, y in middles]


def _label_texts(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    ends: list[tuple[Row, str]] = []
    middle: list[tuple[Row, str]] = []
    for defense in defenses(rows):
        settings = [row for row in rows if row["defense"] == defense]
        names = varied(settings)
        for curve in curves(settings):
            for row in curve:
                found = hyperparameters(row)
                text = ", ".join(shown_value(found[name]) for name in names if name in found)
                (ends if row is curve[0] or row is curve[-1] else middle).append((row, text))
    return ends + middle
