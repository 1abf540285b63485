"""What the trainings spend of their members' privacy: at most, by an accountant; at least, by canaries."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from raymia.metrics.intervals import ALPHA
from raymia.metrics.populations import CANARY
from raymia.metrics.results import WORST
from raymia.privacy import MEANINGLESS
from raymia.report.grid import grid
from raymia.report.rows import Row, attacks, pooled, words

# Fixed before any score is seen: the best of several attacks would be no bound.
_AUDITORS = ("lira_online", "lira_offline", "loss")


def guarantee_table(rows: Sequence[Row]) -> RenderableType | None:
    """A line a setting that has a guarantee or was audited; None where none is."""
    auditor = _auditor(rows)
    audited = {row["setting"]: row for row in pooled(rows, auditor, CANARY)} if auditor else {}
    shown = [row for row in pooled(rows, WORST) if row.get("epsilon") is not None or row["setting"] in audited]
    if not shown:
        return None
    table = grid()
    table.add_column("setting", overflow="fold")
    table.add_column("ε at most")
    if audited:
        table.add_column("ε at least")
        table.add_column("AUC on canaries")
    for row in shown:
        line = [Text(row["setting"]), _at_most(row)]
        if audited:
            line += _audited(audited.get(row["setting"]))
        table.add_row(*line)
    return Group(Text("Privacy spent", style="bold"), table, Text(_caption(auditor if audited else None), style="dim"))


def _auditor(rows: Sequence[Row]) -> str | None:
    """The attack whose guesses bound ε."""
    there = attacks(rows, CANARY)
    return next((name for name in (*_AUDITORS, *there) if name in there), None)


def _at_most(row: Row) -> Text:
    if row.get("epsilon") is None:
        return Text("no guarantee")
    meaning = "" if row["epsilon"] <= MEANINGLESS else ", no meaningful guarantee"
    return Text(f"{row['epsilon']:.3g} (δ {row['delta']:g}{meaning})")


def _audited(row: Row | None) -> list[Text]:
    if row is None or row["epsilon_lower"] is None:
        return [Text("-"), Text("-")]
    return [Text(f"{row['epsilon_lower']:.2f}"), Text(f"{row['auc']:.3f}")]


def _caption(auditor: str | None) -> str:
    most = "At most: by the accountant, for adding or removing one record."
    if auditor is None:
        return most
    level = f"{100 * (1 - ALPHA):.0f}%"
    return f"{most} At least: by guessing the canaries with {words(auditor)} (one-run audit, {level})."
