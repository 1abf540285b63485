"""The most exposed records as pictures, each with the false positive rate at which it is caught."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raymia.report.style import INK, QUIET, new_figure

_COLUMNS = 6
_STEP, _IMAGE, _CAPTION_LINE = 1.35, 0.95, 0.13
_EDGE, _HEAD, _TEXT_LINE, _CHARACTERS = 0.15, 0.62, 0.16, 118


def exposed_figure(images: NDArray[np.uint8], captions: Sequence[Sequence[str]], title: str, subtitle: str) -> Figure:
    """A grid of records, the most exposed first.

    images: uint8[n, H, W, channels], one or three channels; their pixels stay visible. captions: lines under each.
    """
    foot = textwrap.wrap(subtitle, _CHARACTERS)
    lines = max((len(one) for one in captions), default=0)
    row_height = _IMAGE + _CAPTION_LINE * lines + 0.22
    rows = -(-len(images) // _COLUMNS)
    width = 2 * _EDGE + _COLUMNS * _STEP
    height = _HEAD + rows * row_height + len(foot) * _TEXT_LINE + _EDGE
    figure = new_figure(width, height)
    figure.text(_EDGE / width, 1 - 0.14 / height, title, va="top", fontsize=12, fontweight="bold", color=INK)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left = _EDGE + (number % _COLUMNS) * _STEP + (_STEP - _IMAGE) / 2
        top = _HEAD + (number // _COLUMNS) * row_height
        axes = figure.add_axes(
            (left / width, 1 - (top + _IMAGE) / height, _IMAGE / width, _IMAGE / height), gid=f"record/{number}"
        )
        axes.set_axis_off()
        axes.imshow(image.squeeze(), interpolation="nearest", vmin=0, vmax=255, **_colors(image))
        for line, text in enumerate(caption):
            y = 1 - (top + _IMAGE + 0.05 + line * _CAPTION_LINE) / height
            figure.text((left + _IMAGE / 2) / width, y, text, ha="center", va="top", fontsize=6.5, color=INK)
    for number, line_text in enumerate(foot):
        y = (_EDGE + _TEXT_LINE * (len(foot) - number - 1)) / height
        figure.text(_EDGE / width, y, line_text, va="bottom", fontsize=8, color=QUIET)
    return figure


def _colors(image: NDArray[np.uint8]) -> dict[str, Any]:
    return {"cmap": "gray"} if image.shape[-1] == 1 else {}
