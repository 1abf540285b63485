"""The tables at the end of a study, for a terminal or a log: every number with its interval."""

from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from raymia.metrics.comparison import IS_UNDEFENDED, LESS, MORE, SAME, kind_of
from raymia.metrics.intervals import ALPHA
from raymia.metrics.results import UNDEFENDED, WORST
from raymia.report import cells
from raymia.report.grid import grid
from raymia.report.guarantee_table import guarantee_table
from raymia.report.population_table import population_tables
from raymia.report.robust_table import robust_table
from raymia.report.rows import Row, attacks, pooled, settings_with, words
from raymia.report.summary import summary_lines

# Up to this many settings, each has its verdict beside it and takes two lines; more take one line under their verdict.
FEW_SETTINGS = 10
_WIDE = 92
_SHORTEST_NAME = 20
# Two values with their intervals, the verdict's longest word, and the spaces between.
_NARROW_COLUMNS = 23 + 25 + 15 + 3
_VERDICT_STYLES = {LESS: "green", MORE: "red", SAME: "yellow"}
_ASCII = str.maketrans(
    {"±": "~", "×": "x", "Δ": "d", "–": "-", "…": ".", "ε": "eps", "δ": "delta", "ℓ": "L", "∞": "inf", "≤": "<="}
)

_Column = tuple[str, Callable[[Row], str]]
_ACCURACY: _Column = ("test acc. (%)", cells.accuracy)
_DELTA_ACCURACY: _Column = ("Δ acc. (paired)", cells.delta_accuracy)
_AUC: _Column = ("worst attack AUC", cells.auc)
_DELTA_AUC: _Column = ("Δ AUC (paired)", cells.delta_auc)
_CHANCE: _Column = ("p", cells.chance)
# The widest set that fits the terminal is shown; the verdicts keep the last one honest.
_COLUMN_SETS: tuple[tuple[_Column, ...], ...] = (
    (_ACCURACY, _DELTA_ACCURACY, _AUC, _DELTA_AUC, _CHANCE),
    (_ACCURACY, _AUC, _DELTA_AUC, _CHANCE),
    (_ACCURACY, _AUC, _DELTA_AUC),
    (_ACCURACY, _AUC),
)


def print_study_end(
    console: Console, rows: Sequence[Row], failures: Sequence[tuple[str, str]] = (), remarks: Sequence[str] = ()
) -> None:
    """Print a study's last screen: frontier, AUC of each attack, robust accuracy, AUC of each population, summary, what
    failed and why.

    rows: of `frontier.csv`. failures: (setting, reason). remarks: further sentences. Plain text where the console is no
    terminal, ASCII where it can write no more.
    """
    parts: list[RenderableType] = []
    settings = pooled(rows, WORST)
    if settings:
        parts += [frontier_table(rows, console.width), Text(), attack_table(rows, console.width), Text()]
        many = len(settings) > FEW_SETTINGS
        if (robust := robust_table(rows, console.width, many=many)) is not None:
            parts += [robust, Text()]
        by_population = population_tables(rows, console.width, many=many)
        parts += [part for table in by_population for part in (table, Text())]
    if (spent := guarantee_table(rows)) is not None:
        parts += [spent, Text()]
    parts += [Text(line) for line in (*summary_lines(rows), *remarks)]
    if failures:
        parts += [Text(), failure_table(failures)]
    with console.capture() as captured:
        console.print(Group(*parts))
    text = captured.get()
    if console.options.ascii_only:
        # What has no word here (a setting may be called anything) may look odd, but may not end the study.
        text = text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
    console.out(text, highlight=False, end="")


def frontier_table(rows: Sequence[Row], width: int) -> RenderableType:
    """The settings against the worst attack, with paired differences to undefended and the verdict in full.

    width: columns of the terminal; from 80 on, no number is parted from its interval.
    """
    found = pooled(rows, WORST)
    level = f"{100 * (1 - ALPHA):.0f}%"
    few = len(found) <= FEW_SETTINGS
    table = _few(found, width) if few else _many(found, width)
    chance = "; p: how often it is when the seeds are resampled" if few or _CHANCE in _fitting(found, width) else ""
    attacks_at_once = "all attacks and populations of members" if settings_with(rows) else "all attacks"
    caption = (
        f"* on the frontier{chance}. Intervals: {level}; those of the worst attack hold for {attacks_at_once} at once, "
        "but each setting's for itself alone. Every number: frontier.csv."
    )
    return Group(Text("Test accuracy against the worst attack", style="bold"), table, Text(caption, style="dim"))


def attack_table(rows: Sequence[Row], width: int) -> RenderableType:
    """The pooled AUC of each attack on all members, the largest marked; of many settings undefended and frontier.

    width: columns of the terminal. Attacks that do not fit beside one another follow below.
    """
    settings = pooled(rows, WORST)
    whom = ", on all members" if settings_with(rows) else ""
    title = f"AUC of each attack{whom} (! the largest of a setting)"
    if len(settings) > FEW_SETTINGS:
        settings = [row for row in settings if row["on_frontier"] or row["defense"] == UNDEFENDED]
        title += ", undefended and frontier"
    names = attacks(rows)
    found = {name: {row["setting"]: row["auc"] for row in pooled(rows, name)} for name in names}
    largest = {
        row["setting"]: max(
            (found[name][row["setting"]] for name in names if row["setting"] in found[name]), default=None
        )
        for row in settings
    }
    parts: list[RenderableType] = [Text(title, style="bold")]
    for some in _beside_one_another(names, width - min(max(len(row["setting"]) for row in settings), width // 3)):
        table = grid()
        table.add_column("setting", overflow="fold", max_width=width // 3)
        for name in some:
            table.add_column(words(name), overflow="fold", min_width=_longest_word(name))
        for row in settings:
            values = [found[name].get(row["setting"]) for name in some]
            marked = (_marked(value, value == largest[row["setting"]]) for value in values)
            table.add_row(Text(row["setting"]), *marked)
        parts.append(table)
    return Group(*parts)


def _beside_one_another(names: Sequence[str], room: int) -> list[list[str]]:
    """The attacks in as many tables as it takes for none to break a word."""
    tables: list[list[str]] = [[]]
    left = room
    for name in names:
        wide = _longest_word(name) + 1
        if wide > left and tables[-1]:
            tables.append([])
            left = room
        tables[-1].append(name)
        left -= wide
    return tables


def _longest_word(name: str) -> int:
    return max(len("0.612!"), *(len(word) for word in words(name).split()))


def failure_table(failures: Sequence[tuple[str, str]]) -> RenderableType:
    """The settings that failed, each with its reason."""
    table = grid()
    table.add_column("setting", overflow="fold", ratio=1)
    table.add_column("reason", overflow="fold", ratio=3)
    for setting, reason in failures:
        table.add_row(Text(setting), Text(reason))
    return Group(Text(f"Failed settings ({len(failures)})", style="bold red"), table)


def _few(found: Sequence[Row], width: int) -> Table:
    """Two lines a setting: each value, and under it the paired difference."""
    wide = width >= _WIDE
    table = grid()
    # A long name may break anywhere, a verdict only between words.
    table.add_column("setting", overflow="fold", max_width=None if wide else width - _NARROW_COLUMNS)
    table.add_column("test accuracy (%)\nΔ (paired)", no_wrap=True)
    table.add_column("worst attack AUC\nΔ (paired)", no_wrap=True)
    table.add_column("verdict", min_width=19 if wide else 15)
    if wide:
        table.add_column("p", no_wrap=True)
    for row in found:
        line = [
            _two_line_name(row, with_chance=not wide),
            _stacked(cells.accuracy(row), cells.delta_accuracy(row)),
            _stacked(cells.auc(row), cells.delta_auc(row)),
            _verdict(row["verdict"]),
        ]
        table.add_row(*line, *([Text(cells.chance(row))] if wide else []))
    return table


def _many(found: Sequence[Row], width: int) -> RenderableType:
    """One line a setting, under its verdict, in as many columns as fit."""
    columns = _fitting(found, width)
    first = _name_width(found, width)
    sizes = {column: _size(column, found) for column in columns}
    parts: list[RenderableType] = []
    for verdict in _verdicts(found):
        own = [row for row in found if row["verdict"] == verdict]
        table = grid(header=not parts)
        table.add_column("  setting", min_width=first, max_width=first, overflow="fold")
        for column in columns:
            table.add_column(column[0], min_width=sizes[column], no_wrap=True)
        for row in own:
            table.add_row(Text(_one_line_name(row)), *(Text(make(row)) for _, make in columns))
        heading = [] if verdict == IS_UNDEFENDED else [_verdict(verdict).append(f" ({len(own)})")]
        parts += [*heading, table]
    return Group(*parts)


def _fitting(found: Sequence[Row], width: int) -> tuple[_Column, ...]:
    """The widest set of columns that fits beside the settings' names."""
    room = width - _name_width(found, width)
    fitting = (some for some in _COLUMN_SETS if sum(_size(column, found) + 1 for column in some) <= room)
    return next(fitting, _COLUMN_SETS[-1])


def _name_width(found: Sequence[Row], width: int) -> int:
    """What the longest name takes, as far as the narrowest set of columns leaves it: a longer one is folded."""
    needed = sum(_size(column, found) + 1 for column in _COLUMN_SETS[-1])
    longest = max(len(_one_line_name(row)) for row in found)
    return min(longest, max(width - needed, _SHORTEST_NAME))


def _size(column: _Column, found: Sequence[Row]) -> int:
    return max(len(column[0]), *(len(column[1](row)) for row in found))


def _one_line_name(row: Row) -> str:
    return ("* " if row["on_frontier"] else "  ") + str(row["setting"])


def _verdicts(found: Sequence[Row]) -> list[str]:
    """Undefended first, then what helps, then the rest as they come."""
    order = [IS_UNDEFENDED, LESS, SAME, MORE]
    there = list(dict.fromkeys(row["verdict"] for row in found))
    return sorted(there, key=lambda verdict: order.index(kind_of(verdict)) if kind_of(verdict) in order else len(order))


def _two_line_name(row: Row, *, with_chance: bool) -> Text:
    defense, _, parameters = str(row["setting"]).partition(" ")
    lines = [("* " if row["on_frontier"] else "  ") + defense]
    if parameters:
        lines.append(f"  {parameters}")
    if with_chance and row["on_frontier"] and row["p_on_frontier"] is not None:
        lines.append(f"  p {cells.chance(row)}")
    return Text("\n".join(lines))


def _stacked(value: str, delta: str) -> Text:
    return Text(value if delta == "-" else f"{value}\nΔ {delta}")


def _verdict(verdict: str) -> Text:
    return Text(verdict, style=_VERDICT_STYLES.get(kind_of(verdict), ""))


def _marked(value: float | None, largest: bool) -> Text:
    if value is None:
        return Text("-")
    return Text(f"{value:.3f}{'!' if largest else ''}", style="bold" if largest else "", no_wrap=True)
