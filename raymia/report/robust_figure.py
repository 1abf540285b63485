"""The frontier of three objectives, pair by pair: worst-attack AUC, robust accuracy, test accuracy."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raymia.metrics.results import WORST
from raymia.metrics.summary import robust_name
from raymia.report.layout import PANEL_WIDTH, Sheet, letter
from raymia.report.legend import Legend, Says
from raymia.report.notes import notes
from raymia.report.panel import Panel, add_labels, draw_panel
from raymia.report.quantity import AUC, TEST_ACCURACY, Quantity
from raymia.report.robustness import WORDS, compared, has_frontier
from raymia.report.rows import Row, defenses, pooled
from raymia.report.style import INK, QUIET, looks, new_figure, plain_axes, write_figure

_RINGED = "on_robust_frontier"
_SAYS = Says(_RINGED, "on the frontier of all three", "AUC ")
_UP_LEFT, _UP_RIGHT = "↖ better", "better ↗"


def robust_frontier_figure(rows: Sequence[Row], title: str, subtitle: str) -> Figure | None:
    """Draw the pooled rows of the worst attack in three panels, or nothing where no robust accuracy is in them.

    The robust accuracy is the one that the frontier is of (`robustness.compared`); panels with it lack the settings
    without it. Beside each other panels share test accuracy, below each other the AUC: a setting is found again at its
    height, or straight below. rows: of `frontier.csv`. subtitle: data set, sizes, seeds, epochs.
    """
    evaluation = compared(rows)
    if evaluation is None:
        return None
    drawn = pooled(rows, WORST)
    panels = _panels(drawn, Quantity(robust_name(evaluation), "robust_accuracy", _axis_words(evaluation), scale=100))
    look = looks(defenses(drawn))
    foot = "  ".join(notes(drawn, _opening(has_frontier(rows))))
    legend = Legend.of(drawn, look, PANEL_WIDTH, _SAYS)
    sheet = Sheet.of(len(panels), subtitle, foot, legend, columns=2, corner=True)
    figure = new_figure(sheet.width, sheet.height)
    for index, (axes, panel) in enumerate(zip(sheet.add_panels(figure), panels, strict=True)):
        _frame(axes, panel, letter(index))
        draw_panel(axes, panel, look)
        axes.set(xlim=panel.x.limits(drawn), ylim=panel.y.limits(drawn))
        add_labels(axes, panel, look)
    sheet.write(figure, title)
    return figure


def write_robust_frontier(rows: Sequence[Row], folder: Path, title: str, subtitle: str) -> tuple[Path, Path] | None:
    """Write `robust_frontier.png` and `.svg` (equal rows give equal bytes); both paths, None without robustness."""
    figure = robust_frontier_figure(rows, title, subtitle)
    return None if figure is None else write_figure(figure, folder, "robust_frontier")


def _panels(rows: Sequence[Row], robust: Quantity) -> list[Panel]:
    leak = Quantity(AUC.column, AUC.part, f"worst-{AUC.words}", chance=AUC.chance)
    tested = [row for row in rows if robust.known(row)]
    return [
        Panel("leakage_accuracy", rows, x=leak, y=TEST_ACCURACY, ringed=_RINGED),
        Panel("robustness_accuracy", tested, x=robust, y=TEST_ACCURACY, ringed=_RINGED),
        Panel("leakage_robustness", tested, x=leak, y=robust, ringed=_RINGED),
    ]


def _frame(axes: Axes, panel: Panel, name: str) -> None:
    plain_axes(axes)
    axes.set_gid(f"panel/{panel.name}")
    leaks = panel.x.column == AUC.column
    first, second = ("leakage" if leaks else "robustness"), ("accuracy" if panel.y is TEST_ACCURACY else "robustness")
    axes.set_title(f"{name} {first} and {second}", loc="left", fontsize=9.5, color=INK)
    axes.set_title(_UP_LEFT if leaks else _UP_RIGHT, loc="right", fontsize=7.5, color=QUIET)
    axes.set_xlabel(panel.x.words, fontsize=9, color=INK)
    if leaks:
        axes.set_ylabel(panel.y.words, fontsize=9, color=INK)
    else:
        axes.tick_params(labelleft=False)


def _axis_words(evaluation: str) -> str:
    return f"robust accuracy, {WORDS[evaluation]} (%)"


def _opening(frontier: bool) -> str:
    if not frontier:
        return (
            "No frontier of three objectives: no evaluation of robustness was run on every setting. Those without this "
            "one stand in (a) alone."
        )
    return "A ringed setting that is beaten in one panel is better by the third objective."
