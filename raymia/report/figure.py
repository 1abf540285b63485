"""The frontier figure: a panel an attack, test accuracy against attack AUC (the form of paper 1's Figures 5-8)."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raymia.metrics.populations import APART
from raymia.metrics.results import WORST
from raymia.report.layout import Sheet, letter, text_width
from raymia.report.legend import Legend
from raymia.report.notes import notes
from raymia.report.panel import Panel, add_labels, draw_panel
from raymia.report.quantity import AUC, TEST_ACCURACY
from raymia.report.rows import Row, attacks, defenses, pooled, settings_with, words
from raymia.report.style import INK, QUIET, looks, new_figure, plain_axes, write_figure


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
    columns = len(panels) if len(panels) <= 3 else 2 if len(panels) == 4 else 3
    legend = Legend.of(drawn, look, text_width(columns))
    sheet = Sheet.of(len(panels), subtitle, "  ".join(notes(drawn)), legend, columns=columns)
    figure = new_figure(sheet.width, sheet.height)
    # The same for all panels: they are compared.
    across, along = AUC.limits(drawn), TEST_ACCURACY.limits(drawn)
    for index, (axes, panel) in enumerate(zip(sheet.add_panels(figure), panels, strict=True)):
        _frame(axes, panel.name, index, sheet)
        draw_panel(axes, panel, look)
        axes.set(xlim=across, ylim=along)
        add_labels(axes, panel, look)
    sheet.write(figure, title)
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


def _frame(axes: Axes, attack: str, index: int, sheet: Sheet) -> None:
    plain_axes(axes)
    axes.set_gid(f"panel/{attack}")
    name = "worst attack" if attack == WORST else words(attack)
    axes.set_title(f"{letter(index)} {name}", loc="left", fontsize=9.5, color=INK)
    axes.set_title("↖ better", loc="right", fontsize=7.5, color=QUIET)
    if index % sheet.columns == 0:
        axes.set_ylabel(TEST_ACCURACY.words, fontsize=9, color=INK)
    else:
        axes.tick_params(labelleft=False)
    if index + sheet.columns >= sheet.panels:
        axes.set_xlabel(AUC.words, fontsize=9, color=INK)
    else:
        axes.tick_params(labelbottom=False)
