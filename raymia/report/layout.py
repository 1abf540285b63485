"""The sheet of a frontier figure: its sizes, and where text, panels and legend stand on it."""

import math
import textwrap
from dataclasses import dataclass
from typing import Self

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raymia.report.legend import Legend
from raymia.report.style import INK, QUIET

PANEL_WIDTH, _PANEL_HEIGHT = 3.45, 2.75
_LEFT, _RIGHT, _GAP_ACROSS = 0.62, 0.2, 0.3
# Between rows of panels: where they share what is written below the last, and where each has its own axis.
_GAP_DOWN, _GAP_DOWN_LABELED = 0.42, 0.72
_AXIS = 0.62
_EDGE, _TITLE_LINE, _TEXT_LINE = 0.13, 0.27, 0.19
_NARROWEST = 6.6
_CHARACTERS_AN_INCH = 15.5


@dataclass(frozen=True)
class Sheet:
    """Sizes of a figure, in inches: the head's text, the panels, the legend, the foot's text, from top to bottom.

    corner: the legend stands in the free place of the last row of panels instead, whose panels all have an x axis.
    """

    panels: int
    columns: int
    width: float
    head: list[str]
    foot: list[str]
    legend: Legend
    corner: bool = False

    @classmethod
    def of(cls, panels: int, head: str, foot: str, legend: Legend, *, columns: int, corner: bool = False) -> Self:
        """A sheet as wide as its columns of panels, its texts broken into lines."""
        width = sheet_width(columns)
        characters = int((width - _LEFT) * _CHARACTERS_AN_INCH)
        above, below = textwrap.wrap(head, characters), textwrap.wrap(foot, characters)
        return cls(panels, columns, width, above, below, legend, corner)

    @property
    def panel_width(self) -> float:
        return (self.width - _LEFT - _RIGHT - (self.columns - 1) * _GAP_ACROSS) / self.columns

    @property
    def gap_down(self) -> float:
        return _GAP_DOWN_LABELED if self.corner else _GAP_DOWN

    @property
    def top(self) -> float:
        return _EDGE + _TITLE_LINE + _TEXT_LINE * len(self.head) + 0.32

    @property
    def bottom(self) -> float:
        """From the lowest panels to the end of the sheet."""
        if self.corner:
            return self._foot + max(_AXIS, self.legend.height - _PANEL_HEIGHT)
        return self._foot + self.legend.height + _AXIS

    @property
    def height(self) -> float:
        down = math.ceil(self.panels / self.columns)
        return self.top + down * _PANEL_HEIGHT + (down - 1) * self.gap_down + self.bottom

    def add_panels(self, figure: Figure) -> list[Axes]:
        """The panels' axes, row by row."""
        found = []
        for index in range(self.panels):
            left, below = self._corner_of(index)
            wide, high = self.panel_width / self.width, _PANEL_HEIGHT / self.height
            found.append(figure.add_axes((left / self.width, 1 - below / self.height, wide, high)))
        return found

    def write(self, figure: Figure, title: str) -> None:
        """Write everything but what is in the panels."""
        x = _LEFT / self.width
        figure.text(x, 1 - _EDGE / self.height, title, va="top", fontsize=12, fontweight="bold", color=INK)
        for number, line in enumerate(self.head):
            y = 1 - (_EDGE + _TITLE_LINE + number * _TEXT_LINE) / self.height
            figure.text(x, y, line, va="top", fontsize=8.5, color=QUIET)
        for number, line in enumerate(self.foot):
            y = (_EDGE + _TEXT_LINE * (len(self.foot) - number)) / self.height
            figure.text(x, y, line, va="top", fontsize=8, color=QUIET)
        self._draw_legend(figure)

    @property
    def _foot(self) -> float:
        return _EDGE + _TEXT_LINE * len(self.foot) + 0.1

    def _corner_of(self, index: int) -> tuple[float, float]:
        """A panel's left end, and its lower one from the top of the sheet."""
        row, column = divmod(index, self.columns)
        left = _LEFT + column * (self.panel_width + _GAP_ACROSS)
        return left, self.top + row * (_PANEL_HEIGHT + self.gap_down) + _PANEL_HEIGHT

    def _draw_legend(self, figure: Figure) -> None:
        if self.corner:
            left, down = self._corner_of(self.panels)
            top = self.height - (down - _PANEL_HEIGHT)
            self.legend.draw(figure, left / self.width, top / self.height, "upper left")
        else:
            self.legend.draw(figure, _LEFT / self.width, self._foot / self.height)


def sheet_width(columns: int) -> float:
    """Inches."""
    return max(_NARROWEST, _LEFT + _RIGHT + columns * PANEL_WIDTH + (columns - 1) * _GAP_ACROSS)


def text_width(columns: int) -> float:
    """Inches between a sheet's margins."""
    return sheet_width(columns) - _LEFT - _RIGHT


def letter(index: int) -> str:
    """What a panel is called by: `(a)`."""
    return f"({chr(ord('a') + index)})"
