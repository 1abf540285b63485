"""The robust accuracies in the rows: which were measured, and which one the frontier of three objectives is of."""

from collections.abc import Sequence

from raymia.metrics.places import EVALUATIONS
from raymia.metrics.results import WORST
from raymia.metrics.summary import POOLED, robust_name
from raymia.report.cells import times
from raymia.report.rows import Row, pooled

WORDS = {"pgd20": "PGD-20", "aa": "AutoAttack"}


def measured(rows: Sequence[Row]) -> list[str]:
    """The evaluations that some setting has, the weaker one first."""
    found = pooled(rows, WORST)
    return [name for name in EVALUATIONS[::-1] if any(row.get(robust_name(name)) is not None for row in found)]


def compared(rows: Sequence[Row]) -> str | None:
    """The evaluation that most settings have, of equal ones the stronger; None where none has any.

    A frontier of three objectives, where there is one, is of this.
    """
    found = pooled(rows, WORST)
    there = {name: sum(row.get(robust_name(name)) is not None for row in found) for name in EVALUATIONS}
    evaluation = max(EVALUATIONS, key=lambda name: there[name])
    return evaluation if there[evaluation] else None


def has_frontier(rows: Sequence[Row]) -> bool:
    """Whether the rows know a frontier of three objectives."""
    return any(row.get("on_robust_frontier") is not None for row in pooled(rows, WORST))


def images(rows: Sequence[Row]) -> str:
    """How many images the settings were attacked on: `3 × 500` for three targets with 500 each."""
    counts: dict[str, dict[int, int]] = {}
    for row in rows:
        if row["seed"] != POOLED and row.get("robust_images") is not None:
            counts.setdefault(row["setting"], {})[row["seed"]] = row["robust_images"]
    return " or ".join(dict.fromkeys(times(list(by_seed.values())) for by_seed in counts.values()))
