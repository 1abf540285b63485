"""Leakage by memorization on a terminal: the TPR of each bin, and whether a defense takes more from the memorized."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raymia.metrics.memorization_bins import HIGHER, LOWER, UNRESOLVED
from raymia.report.grid import grid
from raymia.report.rows import Row

_MOST_BINS = 6
# Characters of a number beside its interval, and above it.
_WIDE, _NARROW = 24, 16


def memorization_table(rows: Sequence[Row], width: int) -> RenderableType:
    """The TPR of each setting and bin with its paired difference to undefended, the trends, and the verdict in a line.

    rows: of `memorization.csv`. Of many bins the lowest, the middle and the highest that have members are shown. width:
    columns of the terminal; where the bins do not fit beside one another, they follow one below the other.
    """
    fpr = rows[0]["fpr"]
    settings = list(dict.fromkeys(str(row["setting"]) for row in rows))
    bins = _bins_shown(rows)
    name = min(max(map(len, settings)), width // 3)
    if name + _NARROW * len(bins) <= width:
        table = _beside(rows, settings, bins, name, " " if name + _WIDE * len(bins) <= width else "\n")
    else:
        table = _below(rows, settings, bins, name)
    head = f"Members caught (TPR, %) at {100 * fpr:g}% false positives, by memorization score"
    parts: list[RenderableType] = [Text(head, style="bold"), table, Text()]
    defended = [row for row in rows if row["bin"] == 0 and row["verdict"] in (HIGHER, LOWER, UNRESOLVED)]
    if defended:
        parts += [_trends(defended, width), Text()]
    parts += [Text(verdict_line(rows)), Text(_explained(rows), style="dim")]
    return Group(*parts)


def verdict_line(rows: Sequence[Row]) -> str:
    """Whether the defenses take more where memorization is high, as far as the study can tell."""
    firsts = [row for row in rows if row["bin"] == 0]
    groups = {kind: [str(row["setting"]) for row in firsts if row["verdict"] == kind] for kind in (HIGHER, LOWER)}
    unresolved = [str(row["setting"]) for row in firsts if row["verdict"] == UNRESOLVED]
    targets = f"{firsts[0]['targets']} target{'s' * (firsts[0]['targets'] != 1)}"
    said = [f"{kind[0].upper()}{kind[1:]}: {', '.join(names)}." for kind, names in groups.items() if names]
    if unresolved:
        who = "each setting" if len(unresolved) > 1 and not said else ", ".join(unresolved)
        said.append(f"Whether the reduction grows with memorization cannot be resolved with {targets}: {who}.")
    return " ".join(said) or "No defense is compared with undefended."


def interval_words(row: Row) -> str:
    """`0 to 0.25`, or `up to 0`: the bin's scores."""
    return f"up to {row['up_to']:g}" if row["above"] is None else f"{row['above']:g} to {row['up_to']:g}"


def _beside(rows: Sequence[Row], settings: Sequence[str], bins: Sequence[int], name: int, between: str) -> Table:
    """A row a setting, a column a bin."""
    table = grid()
    table.add_column("setting", overflow="fold", max_width=name)
    for number in bins:
        first = next(row for row in rows if row["bin"] == number)
        table.add_column(f"{interval_words(first)}\n{first['members']:,} members", no_wrap=True)
    for setting in settings:
        own = {row["bin"]: row for row in rows if row["setting"] == setting}
        table.add_row(Text(setting), *(_tpr(own[number], between) for number in bins))
    return table


def _below(rows: Sequence[Row], settings: Sequence[str], bins: Sequence[int], name: int) -> Table:
    """A row a bin and setting."""
    table = grid()
    table.add_column("score", no_wrap=True)
    table.add_column("setting", overflow="fold", max_width=name)
    for head in ("TPR (%)", "Δ (paired)"):
        table.add_column(head, no_wrap=True)
    for number in bins:
        own = {row["setting"]: row for row in rows if row["bin"] == number}
        for place, setting in enumerate(settings):
            row = own[setting]
            words = (interval_words(row), f"{row['members']:,} members")
            table.add_row(
                Text(words[place] if place < len(words) else ""),
                Text(setting),
                _with_interval(row, "tpr", 100, ".1f", " "),
                _with_interval(row, "delta_tpr", 100, "+.1f", " "),
            )
    return table


def _trends(defended: Sequence[Row], width: int) -> RenderableType:
    table = grid()
    table.add_column("setting", overflow="fold", max_width=width // 3)
    for head in ("slope of Δ TPR\nover the score", "Δ memorization of\nthose caught"):
        table.add_column(head, no_wrap=True)
    for row in defended:
        table.add_row(
            Text(str(row["setting"])),
            _with_interval(row, "delta_tpr_slope", 1, "+.2f", " "),
            _with_interval(row, "delta_caught_memorization", 1, "+.3f", " "),
        )
    return table


def _explained(rows: Sequence[Row]) -> str:
    over = "over targets" if rows[0]["interval_kind"] == "seeds" else "of the records of one target"
    return (
        f"Intervals: 95%, {over}; Δ: less undefended, paired. Memorization: how much more often models trained on the "
        "record are right on it than models that were not. A defense that takes the same share of every leak takes "
        "more points where more leaks; only those caught being less memorized than undefended shows one that protects "
        "the memorized beyond that. The scores are noisy, which flattens both. Every number: memorization.csv."
    )


def _bins_shown(rows: Sequence[Row]) -> list[int]:
    numbers = sorted({row["bin"] for row in rows if row["members"]})
    if len(numbers) <= _MOST_BINS:
        return numbers
    return [numbers[0], numbers[len(numbers) // 2], numbers[-1]]


def _tpr(row: Row, between: str) -> Text:
    value = _with_interval(row, "tpr", 100, ".1f", between)
    if row["delta_tpr"] is None:
        return value
    return value + "\nΔ " + _with_interval(row, "delta_tpr", 100, "+.1f", between)


def _with_interval(row: Row, name: str, scale: float, form: str, between: str) -> Text:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return Text("-")
    if low is None or high is None:
        return Text(f"{scale * value:{form}}")
    return Text(f"{scale * value:{form}}{between}[{scale * low:{form}}, {scale * high:{form}}]")
