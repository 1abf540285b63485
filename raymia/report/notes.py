"""What a reader must know to read a figure, as sentences."""

from collections.abc import Sequence

from raymia.metrics.intervals import ALPHA
from raymia.privacy import MEANINGLESS
from raymia.report.rows import Row, defenses, settings_with, undefended, varied


def notes(rows: Sequence[Row], opening: str = "Upper left is better.") -> list[str]:
    """The sentences below a figure of these rows. opening: where in it is better."""
    kinds = {row["interval_kind"] for row in rows} - {None}
    over = " and ".join({"records": "records", "seeds": "target seeds"}.get(kind, kind) for kind in sorted(kinds))
    found = [opening]
    if over:
        found.append(f"Thin lines: {100 * (1 - ALPHA):.0f}% intervals over {over}.")
    if undefended(rows) is None:
        found.append("The undefended model is missing: nothing here is compared with it.")
    else:
        found.append("Gray bands: the intervals of undefended.")
    if settings_with(rows):
        found.append(
            "Points of settings with x and + are over all members; x and + have their intervals in the tables."
        )
    if any(varied([row for row in rows if row["defense"] == defense]) for defense in defenses(rows)):
        found.append("Small numbers: the hyperparameter.")
    private = [row["epsilon"] for row in rows if row.get("epsilon") is not None]
    if not private:
        found.append("no DP-SGD line")
    elif max(private) > MEANINGLESS:
        found.append(f"DP-SGD's numbers are its ε; above {MEANINGLESS:g} it is no meaningful guarantee.")
    return found
