"""The ROC curves of a trial's attacks on log-log axes: the low false-positive rates are where an attack hurts.

Log axes after Carlini et al. 2022 (LiRA), Figure 2.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from raymia.metrics.populations import ALL, CANARY, DIRECT, GENERATOR, INDIRECT, arranged, parts
from raymia.report.rows import words
from raymia.report.style import INK, LINE_COLORS, QUIET, new_figure, plain_axes

# A rate is resolvable when at least this many non-members are expected beyond it (as in `tpr_at_fpr`).
_RESOLVING_RECORDS = 10

_LINE_STYLES: dict[str, Any] = {
    ALL: "-",
    DIRECT: (0, (5, 1.5)),
    INDIRECT: (0, (1, 1.2)),
    CANARY: (0, (3, 1, 1, 1, 1, 1)),
    GENERATOR: (0, (6, 1.5, 1, 1.5)),
}

Curve = tuple[ArrayLike, ArrayLike]


def roc_figure(curves: Mapping[str, Sequence[Curve]], title: str, *, nonmembers: int) -> Figure:
    """One thin line for each measure and target seed, the chance line, and what the records cannot resolve.

    An attack's populations of members have its color, and each a line style of its own. curves: by measure name
    (`raymia.metrics.populations`), (false-positive rates, true-positive rates) of each seed, float[P] each, from
    (0, 0) to (1, 1).
    nonmembers: records outside the training set of one target; rates below 10 / nonmembers are shaded, the axes
    end at 1 / nonmembers. Raises ValueError for fewer than one non-member.
    """
    if nonmembers < 1:
        raise ValueError(f"nonmembers is {nonmembers}: an ROC needs at least one non-member")
    floor = 0.8 / nonmembers
    resolvable = min(_RESOLVING_RECORDS / nonmembers, 1.0)
    figure = new_figure(5.6, 5.2)
    axes = figure.add_axes((0.13, 0.11, 0.83, 0.79))
    plain_axes(axes)
    axes.set(xscale="log", yscale="log", xlim=(floor, 1.05), ylim=(floor, 1.05))
    axes.axvspan(floor, resolvable, color="#000000", alpha=0.06, linewidth=0, gid="not_resolvable")
    axes.text(
        0.02,
        0.98,
        f"shaded: not resolvable\n(false-positive rate below {resolvable:.2g})",
        transform=axes.transAxes,
        va="top",
        fontsize=7.5,
        color=QUIET,
    )
    axes.plot([floor, 1], [floor, 1], color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)), gid="chance")
    handles, names = [], []
    for measure, style in _styles(curves).items():
        for number, (fpr, tpr) in enumerate(curves[measure]):
            axes.plot(fpr, tpr, linewidth=0.9, alpha=0.75, gid=f"{measure}/{number}", **style)
        handles.append(Line2D([], [], linewidth=1.1, **style))
        names.append(_words(measure))
    handles.append(Line2D([], [], color=QUIET, linewidth=0.9, linestyle=(0, (4, 3))))
    size = 8 if len(names) < 9 else 6
    axes.legend(handles, [*names, "chance"], loc="lower right", frameon=False, fontsize=size, handlelength=3)
    axes.set_xlabel("false-positive rate", fontsize=9, color=INK)
    axes.set_ylabel("true-positive rate", fontsize=9, color=INK)
    figure.text(0.13, 0.965, title, fontsize=11, fontweight="bold", color=INK, va="top")
    return figure


def _styles(measures: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Color and line style of each measure, arranged."""
    found = arranged(measures)
    attacks = list(dict.fromkeys(parts(measure)[0] for measure in found))
    styles = {}
    for measure in found:
        attack, population = parts(measure)
        color = LINE_COLORS[attacks.index(attack) % len(LINE_COLORS)]
        styles[measure] = {"color": color, "linestyle": _LINE_STYLES[population]}
    return styles


def _words(measure: str) -> str:
    attack, population = parts(measure)
    return words(attack) if population == ALL else f"{words(attack)}, {population}"
