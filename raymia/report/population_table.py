"""The tables by population at the end of a study: whom the attacks find, and what the generator gives away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raymia.metrics.intervals import ALPHA
from raymia.metrics.populations import APART, GENERATOR
from raymia.metrics.results import WORST
from raymia.report import cells
from raymia.report.grid import grid
from raymia.report.populations import Line, lines, settings_shown
from raymia.report.rows import Row, attacks, pooled, undefended, words


def population_tables(rows: Sequence[Row], width: int, *, many: bool) -> list[RenderableType]:
    """The AUC of each attack on each population of members, then the attacks on the generators; none without them.

    width: columns of the terminal. many: show only settings on the frontier (`populations.settings_shown`), and
    undefended for reference.
    """
    tables = []
    if shown := settings_shown(rows, APART, many=many):
        base = undefended(pooled(rows, WORST))
        found = [lines(rows, row["setting"]) for row in ([] if base is None else [base]) + shown]
        tables.append(_members_table(found, attacks(rows), width, _which(shown, many=many)))
    if shown := settings_shown(rows, (GENERATOR,), many=many):
        of_generators = [line for row in shown for line in lines(rows, row["setting"], (GENERATOR,))]
        names = attacks(rows, GENERATOR)
        tables.append(_generator_table(of_generators, names, width, _which(shown, many=many)))
    return tables


@dataclass(frozen=True)
class _Layout:
    """Column widths. spread: whether half the interval stands beside each AUC."""

    population: int
    members: int
    auc: int
    spread: bool

    @classmethod
    def of(cls, found: Sequence[Line], names: Sequence[str], width: int) -> Self:
        """The widest of: AUCs with their spread, AUCs under whole words, bare AUCs."""
        population = max(len(_population(line)) for line in found)
        members = max(len("members"), *(len(line.members) for line in found))
        longest = max(len(cells.auc_spread(row)) for line in found for row in line.rows.values())
        word = max(len(word) for name in names for word in words(name).split())
        bare = len("0.612!")
        aucs = [(1 + longest, True), (max(bare, word), False), (bare, False)]
        fitting = (one for one in aucs if population + 1 + members + len(names) * (1 + one[0]) <= width)
        return cls(population, members, *next(fitting, aucs[-1]))

    def table(self, names: Sequence[str], *, header: bool = False) -> Table:
        table = grid(header=header)
        table.add_column("", width=self.population)
        table.add_column("members", width=self.members, justify="right")
        for name in names:
            table.add_column(words(name), width=self.auc, overflow="fold")
        return table


def _members_table(settings: Sequence[Sequence[Line]], names: Sequence[str], width: int, which: str) -> RenderableType:
    """A line a population, under its setting's name."""
    layout = _Layout.of(list(chain.from_iterable(settings)), names, width)
    parts: list[RenderableType] = [
        Text(f"AUC by population of the members (! the largest of a setting){which}", style="bold"),
        layout.table(names, header=True),
    ]
    for own in settings:
        table = layout.table(names)
        largest = max(row["auc"] for line in own for row in line.rows.values())
        for line in own:
            values = [_marked(line.rows, name, largest, spread=layout.spread) for name in names]
            table.add_row(Text(_population(line)), Text(line.members), *values)
        parts += [Text(own[0].setting), table]
    spread = f" ±: half the {100 * (1 - ALPHA):.0f}% interval." if layout.spread else ""
    caption = f"direct: trained on; indirect: only its generator, filter or teacher saw them.{spread}"
    return Group(*parts, Text(caption, style="dim"))


def _generator_table(found: Sequence[Line], names: Sequence[str], width: int, which: str) -> RenderableType:
    beside = max(len(line.setting) + 1 + len(line.members) for line in found)
    longest = max(len(cells.auc(row)) for line in found for row in line.rows.values())
    cell = cells.auc if beside + len(names) * (1 + longest) <= width else cells.auc_spread
    table = grid()
    table.add_column("setting", overflow="fold")
    table.add_column("members", justify="right", no_wrap=True)
    for name in names:
        table.add_column(words(name), no_wrap=True)
    for line in found:
        values = [cell(line.rows[name]) if name in line.rows else "-" for name in names]
        table.add_row(Text(line.setting), Text(line.members), *map(Text, values))
    return Group(Text(f"AUC of attacks on the generator, on its training set{which}", style="bold"), table)


def _which(shown: Sequence[Row], *, many: bool) -> str:
    return "" if not many else ", frontier" if shown[0]["on_frontier"] else ", best trade-off"


def _population(line: Line) -> str:
    return f"  {line.population}"


def _marked(rows: Mapping[str, Row], name: str, largest: float, *, spread: bool) -> Text:
    if name not in rows:
        return Text("-")
    row = rows[name]
    is_largest = row["auc"] == largest
    text = cells.auc_spread(row) if spread else f"{row['auc']:.3f}"
    return Text(text + ("!" if is_largest else ""), style="bold" if is_largest else "", no_wrap=True)
