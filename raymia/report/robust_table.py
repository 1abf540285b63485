"""The table of robust accuracies at the end of a study, and which settings are on the frontier of three objectives."""

from collections.abc import Callable, Sequence
from functools import partial

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raymia.metrics.intervals import ALPHA
from raymia.metrics.results import UNDEFENDED, WORST
from raymia.report import cells
from raymia.report.grid import grid
from raymia.report.robustness import WORDS, compared, has_frontier, images, measured
from raymia.report.rows import Row, pooled

_FRONTIER = "on_robust_frontier"
_INDENT = 2

_Column = tuple[str, Callable[[Row], str]]
_ACCURACY: _Column = ("test acc. (%)", cells.accuracy)
_AUC: _Column = ("worst attack AUC", cells.auc)
_CHANCE: _Column = ("p", partial(cells.chance, frontier=_FRONTIER))


def robust_table(rows: Sequence[Row], width: int, *, many: bool) -> RenderableType | None:
    """A line a setting: test accuracy, robust accuracies, worst attack; None where no robust accuracy was measured.

    width: columns of the terminal. Names that leave too little room stand above their numbers. many: show only
    undefended and the frontier, where there is one.
    """
    evaluation = compared(rows)
    if evaluation is None:
        return None
    found = pooled(rows, WORST)
    title = "Test accuracy and robust accuracy against the worst attack"
    if many and has_frontier(rows):
        found = [row for row in found if row[_FRONTIER] or row["defense"] == UNDEFENDED]
        title += ", undefended and frontier"
    layouts = _layouts(rows, evaluation)
    fitting = (one for one in layouts if _fits(one[0], found, width, beside=one[1]))
    columns, beside = next(fitting, layouts[-1])
    table = _names_beside(found, columns) if beside else _names_above(found, columns)
    caption = _caption(rows, evaluation, with_chance=_CHANCE in columns)
    return Group(Text(title, style="bold"), table, Text(caption, style="dim"))


def _layouts(rows: Sequence[Row], evaluation: str) -> list[tuple[list[_Column], bool]]:
    """Columns, the most first, each with whether names stand beside them. No number is given up for a shorter page."""
    robust: dict[str, _Column] = {
        name: (f"{WORDS[name]} (%)", partial(cells.robust_accuracy, evaluation=name)) for name in measured(rows)
    }
    found = pooled(rows, WORST)
    chance = [_CHANCE] if any(row.get(f"p_{_FRONTIER}") is not None for row in found) else []
    most = [_ACCURACY, *robust.values(), _AUC, *chance]
    fewer = [most, [_ACCURACY, *robust.values(), _AUC], [*robust.values(), _AUC], [robust[evaluation], _AUC]]
    layouts = [(most, True), *((columns, False) for columns in fewer), ([robust[evaluation]], False)]
    if any(row.get("delta_robust_accuracy") is not None for row in found):
        delta: _Column = (f"Δ {WORDS[evaluation]} (paired)", cells.delta_robust_accuracy)
        layouts.insert(0, ([_ACCURACY, *robust.values(), delta, _AUC, *chance], True))
    return layouts


def _fits(columns: Sequence[_Column], found: Sequence[Row], width: int, *, beside: bool) -> bool:
    name = max(len(_name(row)) for row in found) if beside else _INDENT
    return name + sum(_size(column, found) + 1 for column in columns) <= width


def _names_beside(found: Sequence[Row], columns: Sequence[_Column]) -> Table:
    table = grid()
    table.add_column("  setting", no_wrap=True)
    for title, _ in columns:
        table.add_column(title, no_wrap=True)
    for row in found:
        table.add_row(Text(_name(row)), *(Text(make(row)) for _, make in columns))
    return table


def _names_above(found: Sequence[Row], columns: Sequence[_Column]) -> RenderableType:
    def table(*, header: bool) -> Table:
        one = grid(header=header)
        one.add_column("", width=_INDENT)
        for column in columns:
            one.add_column(column[0], min_width=_size(column, found), no_wrap=True)
        return one

    parts: list[RenderableType] = [table(header=True)]
    for row in found:
        numbers = table(header=False)
        numbers.add_row("", *(Text(make(row)) for _, make in columns))
        parts += [Text(_name(row)), numbers]
    return Group(*parts)


def _size(column: _Column, found: Sequence[Row]) -> int:
    return max(len(column[0]), *(len(column[1](row)) for row in found))


def _name(row: Row) -> str:
    return ("* " if row.get(_FRONTIER) else "  ") + str(row["setting"])


def _caption(rows: Sequence[Row], evaluation: str, *, with_chance: bool) -> str:
    if has_frontier(rows):
        chance = "; p: how often it is when the seeds are resampled" if with_chance else ""
        frontier = f"* on the frontier of test accuracy, {WORDS[evaluation]} and worst attack AUC{chance}."
    else:
        frontier = "No frontier of three objectives: no evaluation of robustness was run on every setting."
    names = ", ".join(WORDS[name] for name in measured(rows))
    return (
        f"{frontier} {names}: images answered rightly as they are and under the attack, of {images(rows)} a setting. "
        f"Intervals: {100 * (1 - ALPHA):.0f}%, each for itself alone; those of the worst attack hold for all attacks "
        "at once. Every number: frontier.csv."
    )
