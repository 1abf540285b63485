"""Leakage and accuracy by memorization: the figure, a line a setting over the bins of memorization scores."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from raymia.metrics.results import UNDEFENDED, WORST
from raymia.report.legend import Legend
from raymia.report.memorization_table import interval_words
from raymia.report.rows import ACCURACY_ALLOWANCE, Row, chosen, pooled, undefended
from raymia.report.style import INK, QUIET, looks, new_figure, plain_axes, write_figure

# More lines than these cannot be told apart: then each defense is shown by the setting chosen for it.
_MOST_LINES = 9
_FEW_BINS = 8
_WIDTH, _LEFT, _RIGHT, _EDGE = 7.6, 0.72, 0.2, 0.13
_TITLE_LINE, _TEXT_LINE, _LEGEND_LINE = 0.27, 0.19, 0.215
_GAP, _STRIP, _BELOW = 0.36, 0.62, 0.5
_PANELS = (("tpr", 2.3), ("test_accuracy", 1.9))
_CHARACTERS = 108
# Inches of the legend, for text of 8 points.
_HANDLE, _CHARACTER = 0.45, 0.068

_Look = tuple[tuple[float, float, float], str]


def memorization_figure(rows: Sequence[Row], table: Sequence[Row], title: str, subtitle: str) -> Figure:
    """Two panels above one another, the TPR and the accuracy on non-members, and a strip of how many records a bin has.

    rows: of `memorization.csv`. table: of the study's `frontier.csv`, by which settings are chosen where all would be
    too many. Intervals that are None are left out.
    """
    shown = settings_drawn(rows, table)
    look = _looks(rows, shown)
    head = textwrap.wrap(subtitle, _CHARACTERS)
    foot = textwrap.wrap("  ".join(_notes(rows, shown)), _CHARACTERS)
    legend = _legend(shown, look)
    below = _EDGE + _TEXT_LINE * len(foot) + legend.height + _BELOW + 0.1
    top = _EDGE + _TITLE_LINE + _TEXT_LINE * len(head) + 0.32
    height = top + sum(each for _, each in _PANELS) + _GAP * len(_PANELS) + _STRIP + below
    figure = new_figure(_WIDTH, height)
    bottom = height - top
    for number, (name, high) in enumerate(_PANELS):
        bottom -= high
        axes = _axes(figure, bottom, high, name)
        _panel(axes, rows, shown, look, name, number)
        bottom -= _GAP
    strip = _axes(figure, bottom - _STRIP, _STRIP, "records")
    _counts(strip, [row for row in rows if row["setting"] == shown[0]])
    legend.draw(figure, _LEFT / _WIDTH, (_EDGE + _TEXT_LINE * len(foot) + 0.1) / height)
    _write_text(figure, title, head, foot)
    return figure


def write_memorization(
    rows: Sequence[Row], table: Sequence[Row], folder: Path, title: str, subtitle: str
) -> tuple[Path, Path]:
    """Write `memorization.png` and `memorization.svg`, the same bytes for the same rows; both paths."""
    return write_figure(memorization_figure(rows, table, title, subtitle), folder, "memorization")


def settings_drawn(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:
    """The figure's settings in the order of the rows: all, or one a defense (`rows.chosen`) where they are many."""
    names = list(dict.fromkeys(str(row["setting"]) for row in rows))
    if len(names) <= _MOST_LINES:
        return names
    worst = pooled(table, WORST)
    base = undefended(worst)
    kept = set() if base is None else {base["setting"]}
    for defense in {row["defense"] for row in worst} - {UNDEFENDED}:
        own = [row for row in worst if row["defense"] == defense]
        pick = chosen([*own, *([] if base is None else [base])])
        kept |= set() if pick is None else {pick["setting"]}
    return [name for name in names if name in kept]


def _looks(rows: Sequence[Row], shown: Sequence[str]) -> dict[str, _Look]:
    """Color and marker of each setting: its defense's, the paler the earlier among the settings of one defense."""
    defenses = {str(row["setting"]): str(row["defense"]) for row in rows}
    look = looks(dict.fromkeys(defenses.values()))
    found = {}
    for name in shown:
        color, marker = look[defenses[name]]
        own = [other for other in shown if defenses[other] == defenses[name]]
        share = 0.35 + 0.65 * (own.index(name) + 1) / len(own) if len(own) > 1 else 1.0
        red, green, blue = (1 - share * (1 - part) for part in to_rgb(color))
        found[name] = ((red, green, blue), marker)
    return found


def _axes(figure: Figure, bottom: float, high: float, gid: str) -> Axes:
    height = figure.get_figheight()
    box = (_LEFT / _WIDTH, bottom / height, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, high / height)
    axes = figure.add_axes(box)
    axes.set_gid(f"panel/{gid}")
    plain_axes(axes)
    return axes


def _panel(
    axes: Axes, rows: Sequence[Row], shown: Sequence[str], look: dict[str, _Look], name: str, number: int
) -> None:
    bins = 1 + max(row["bin"] for row in rows)
    for place, setting in enumerate(shown):
        own = [row for row in rows if row["setting"] == setting and row[f"{name}_low"] is not None]
        aside = 0.5 * ((place + 0.5) / len(shown) - 0.5)
        _line(axes, own, name, aside, look[setting], f"{name}/{setting}")
    axes.set_xlim(-0.5, bins - 0.5)
    top = min(100.0, axes.get_ylim()[1])
    axes.set_ylim(-0.03 * top, 1.04 * top)
    axes.set_xticks(range(bins))
    axes.tick_params(labelbottom=False)
    fpr = rows[0]["fpr"]
    if name == "tpr":
        axes.axhline(100 * fpr, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1, gid="tpr/chance")
    what = f"members caught at {100 * fpr:g}% false positives" if name == "tpr" else "accuracy on non-members"
    axes.set_title(f"({chr(ord('a') + number)}) {what}", loc="left", fontsize=9.5, color=INK)
    axes.set_ylabel("TPR (%)" if name == "tpr" else "test accuracy (%)", fontsize=9, color=INK)


def _line(axes: Axes, own: Sequence[Row], name: str, aside: float, look: _Look, gid: str) -> None:
    color, marker = look
    star = marker == "*"
    x = [row["bin"] + aside for row in own]
    axes.vlines(
        x,
        [100 * row[f"{name}_low"] for row in own],
        [100 * row[f"{name}_high"] for row in own],
        color=color,
        linewidth=0.9,
        alpha=0.55,
        zorder=2,
        gid=f"{gid}/intervals",
    )
    axes.plot(
        x,
        [100 * row[name] for row in own],
        color=color,
        marker=marker,
        markersize=8 if star else 4,
        markeredgecolor="white" if star else color,
        markeredgewidth=0.5,
        linewidth=1.2,
        zorder=5 if star else 4,
        gid=f"{gid}/line",
    )


def _counts(axes: Axes, own: Sequence[Row]) -> None:
    """Bars of members and non-members a bin, with their numbers; with the sum where there is no room for both."""
    few = len(own) <= _FEW_BINS
    x = np.arange(len(own))
    counts = {name: [row[name] for row in own] for name in ("members", "nonmembers")}
    most = max(1, *counts["members"], *counts["nonmembers"])
    style: dict[str, Any] = {"ha": "center", "va": "bottom", "color": QUIET}
    for (name, heights), side, color in zip(counts.items(), (-0.19, 0.19), ("#555555", "#B5B5B5"), strict=True):
        axes.bar(x + side, heights, width=0.34, linewidth=0, color=color, gid=f"records/{name}")
        for at, high in zip(x + side, heights, strict=True) if few else ():
            axes.text(at, high + 0.04 * most, f"{high:,}", fontsize=6.5, **style)
    for at, both in enumerate(zip(*counts.values(), strict=True)) if not few else ():
        axes.text(at, max(both) + 0.04 * most, f"{sum(both):,}", fontsize=5.5, **style)
    axes.set(xlim=(-0.5, len(own) - 0.5), ylim=(0, 1.3 * most), yticks=[], xticks=range(len(own)))
    axes.grid(False)
    names = [interval_words(row) if few else f"{row['up_to']:g}" for row in own]
    axes.set_xticklabels(names, fontsize=8 if few else 7, rotation=0 if len(own) <= 12 else 60)
    axes.set_ylabel("records", fontsize=9, color=INK)
    said = "members, and paler non-members, over all targets" + ("" if few else "; their sum above")
    axes.set_title(said, loc="left", fontsize=7.5, color=QUIET, pad=2)
    axes.set_xlabel(f"memorization score{'' if few else ' up to'}", fontsize=9, color=INK)


def _legend(shown: Sequence[str], look: dict[str, _Look]) -> Legend:
    handles = []
    for name in shown:
        color, marker = look[name]
        star = marker == "*"
        handles.append(Line2D([], [], color=color, marker=marker, linewidth=1.2, markersize=9 if star else 4.5))
    names = ["none (undefended)" if name == UNDEFENDED else name for name in shown]
    room = _WIDTH - _LEFT - _RIGHT
    columns = max(1, int(room // (_HANDLE + _CHARACTER * max(map(len, names)))))
    return Legend(handles, names, min(columns, len(names)))


def _notes(rows: Sequence[Row], shown: Sequence[str]) -> list[str]:
    targets = rows[0]["targets"]
    over = f"over {targets} targets" if targets > 1 else "of the records of one target"
    found = [
        "Memorization: how much more often models trained on the record are right on it than models that were not "
        "(Feldman & Zhang 2020).",
        f"Thin bars: 95% intervals {over}; bins with too few records for one are left out. Dashed: chance.",
    ]
    if len(shown) < len({row["setting"] for row in rows}):
        found.append(
            "Each defense at the setting with the lowest worst-attack AUC within "
            f"{100 * ACCURACY_ALLOWANCE:g} points of undefended's test accuracy, else at its most accurate one."
        )
    if len({row["attack"] for row in rows}) == 1:
        return [f"Attack: {rows[0]['attack']}.", *found]
    return ["Attack: each setting's worst.", *found]


def _write_text(figure: Figure, title: str, head: Sequence[str], foot: Sequence[str]) -> None:
    x, height = _LEFT / _WIDTH, figure.get_figheight()
    figure.text(x, 1 - _EDGE / height, title, va="top", fontsize=12, fontweight="bold", color=INK)
    for number, line in enumerate(head):
        y = 1 - (_EDGE + _TITLE_LINE + number * _TEXT_LINE) / height
        figure.text(x, y, line, va="top", fontsize=8.5, color=QUIET)
    for number, line in enumerate(foot):
        y = (_EDGE + _TEXT_LINE * (len(foot) - number)) / height
        figure.text(x, y, line, va="top", fontsize=8, color=QUIET)
