"""What an axis of a frontier figure shows: a column of the rows, with its interval, its words and its limits."""

from collections.abc import Iterable
from dataclasses import dataclass

from raymia.report.rows import Row


@dataclass(frozen=True)
class Quantity:
    """column: in the rows, with `_low` and `_high`. part: what its artists are called by. scale: data to axis.

    chance: the value of an attack that knows nothing (axis units); None where there is no such value.
    """

    column: str
    part: str
    words: str
    scale: float = 1
    chance: float | None = None

    def known(self, row: Row) -> bool:
        """Whether the row has it."""
        return row.get(self.column) is not None

    def value(self, row: Row) -> float:
        """In units of the axis."""
        value: float = self.scale * row[self.column]
        return value

    def interval(self, row: Row) -> tuple[float, float] | None:
        """In units of the axis; None where it is not known."""
        low, high = row[f"{self.column}_low"], row[f"{self.column}_high"]
        return None if low is None or high is None else (self.scale * low, self.scale * high)

    def limits(self, rows: Iterable[Row]) -> tuple[float, float]:
        """The axis' ends around all values and intervals; from chance on (or below, where data lie there)."""
        shown = [row for row in rows if self.known(row)]
        values = [self.value(row) for row in shown]
        values += [end for row in shown for end in self.interval(row) or ()]
        if self.chance is None:
            spare = max(0.06 * (max(values) - min(values)), 0.5)
            return min(values) - spare, max(values) + spare
        pad = 0.04 * max(max(values) - min(self.chance, *values), 0.1)
        left = self.chance if min(values) >= self.chance else min(values) - pad
        return left, max(max(values) + pad, left + 0.1)


AUC = Quantity("auc", "auc", "attack AUC (0.5 = chance)", chance=0.5)
TEST_ACCURACY = Quantity("test_accuracy", "accuracy", "test accuracy (%)", scale=100)
