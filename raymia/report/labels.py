"""Where the small labels of a figure go: beside their points, never on each other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A rectangle in points, y upward."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "Box") -> bool:
        """Whether the two share some area."""
        return (
            self.left < other.right and other.left < self.right and self.bottom < other.top and other.bottom < self.top
        )

    def within(self, other: "Box") -> bool:
        """Whether this one lies wholly in the other."""
        return (
            other.left <= self.left
            and other.bottom <= self.bottom
            and self.right <= other.right
            and self.top <= other.top
        )


# Above and below first: the intervals of a point are thin lines left and right of it as well.
_DIRECTIONS = ((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))


def place(
    wanted: Sequence[tuple[float, float, float, float]],
    taken: Iterable[Box],
    frame: Box,
    gaps: Sequence[float] = (4.0, 8.0),
) -> list[Box | None]:
    """A free box for each label, in order: the first asked is the first served.

    wanted: (x, y, width, height) of each label's point and text, in points. taken: what may not be covered.
    frame: where labels must stay. gaps: distances from the point to try. None where no box is free.
    """
    occupied = list(taken)
    found: list[Box | None] = []
    for x, y, width, height in wanted:
        boxes = (_beside(x, y, width, height, direction, gap) for gap in gaps for direction in _DIRECTIONS)
        free = (box for box in boxes if box.within(frame) and not any(box.meets(other) for other in occupied))
        box = next(free, None)
        found.append(box)
        if box is not None:
            occupied.append(box)
    return found


def _beside(x: float, y: float, width: float, height: float, direction: tuple[int, int], gap: float) -> Box:
    left = x + direction[0] * (gap + width / 2) - width / 2
    bottom = y + direction[1] * (gap + height / 2) - height / 2
    return Box(left, bottom, left + width, bottom + height)
