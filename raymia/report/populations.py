"""The populations of a setting's members, line by line: what the tables by population are made of."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from raymia.metrics.populations import POPULATIONS, SPECIAL
from raymia.metrics.results import WORST
from raymia.metrics.summary import POOLED
from raymia.report.rows import Row, chosen, pooled, settings_with, undefended

OF_MEMBERS = tuple(name for name in POPULATIONS if name not in SPECIAL)


@dataclass(frozen=True)
class Line:
    """One population of a setting: how many members each target has of it, and the pooled row of each attack.

    members: `5 × 300` for five targets with 300 each, their sum where targets differ, and `300` for one target.
    """

    setting: str
    population: str
    members: str
    rows: Mapping[str, Row]


def lines(rows: Sequence[Row], setting: str, populations: Sequence[str] = OF_MEMBERS) -> list[Line]:
    """The setting's populations among these, as far as it has results of them, in the order given."""
    own = [row for row in rows if row["setting"] == setting and row["attack"] != WORST]
    found = []
    for population in populations:
        of_it = [row for row in own if row["population"] == population]
        results = {row["attack"]: row for row in of_it if row["seed"] == POOLED and row["auc"] is not None}
        if results:
            found.append(Line(setting, population, _members(of_it), results))
    return found


def settings_shown(rows: Sequence[Row], populations: Collection[str], *, many: bool) -> list[Row]:
    """The `worst` rows of the settings with one of these populations, in the order of the tables.

    many: only those on the frontier; where none is, the one that `rows.chosen` would take.
    """
    worst = pooled(rows, WORST)
    names = settings_with(rows, populations)
    found = [row for row in worst if row["setting"] in names]
    if not many or not found:
        return found
    base = undefended(worst)
    pick = chosen([*([] if base is None else [base]), *found])
    return [row for row in found if row["on_frontier"]] or [row for row in found if row is pick]


def _members(rows: Sequence[Row]) -> str:
    """Of the first attack: all attacks on a population have the same members."""
    counts = [row["members"] for row in rows if row["seed"] != POOLED and row["attack"] == rows[0]["attack"]]
    if len(set(counts)) > 1:
        return f"{sum(counts):,}"
    return f"{counts[0]:,}" if len(counts) == 1 else f"{len(counts)} × {counts[0]:,}"
