"""The contact sheet of a synthetic set: what was kept and rejected of each class, and what is nearest to training."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from raymia.report.style import INK, QUIET, new_figure, write_figure

MOST_CLASSES = 12
KEPT, REJECTED, CLOSEST = 8, 3, 10

# Inches. Rejected images stand wider apart: their reason is written below them.
_EDGE, _NAMES = 0.15, 1.0
_IMAGE, _KEPT_STEP, _REJECTED_STEP, _ROW_STEP = 0.52, 0.6, 0.86, 0.84
_REJECTED_LEFT = _NAMES + KEPT * _KEPT_STEP + 0.3
_WIDTH = _REJECTED_LEFT + REJECTED * _REJECTED_STEP + _EDGE
_TITLE, _TEXT_LINE, _COLUMNS, _STRIP = 0.38, 0.17, 0.34, 1.72
_PAIR_STEP = (_WIDTH - _NAMES - _EDGE) / CLOSEST
_WARNING = "#D55E00"
_NAME_CHARACTERS, _REASON_CHARACTERS, _TEXT_CHARACTERS = 11, 10, 128


class Samples(Protocol):
    """Generated images in the order of their ids, as `raymia.diffusion.synthetic_set.Examples` holds them.

    conditions: int64[n], the class each was drawn for, -1 for none. labels: int64[n], the class the classifier gave.
    confidences: float32[n]. images: uint8[n, H, W, C].
    """

    @property
    def conditions(self) -> NDArray[np.int64]: ...

    @property
    def labels(self) -> NDArray[np.int64]: ...

    @property
    def confidences(self) -> NDArray[np.float32]: ...

    @property
    def images(self) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Pairs:
    """Generated images with their nearest training images: uint8[m, H, W, C] both.

    distances: float64[m], in [0, 1] units. copies: bool[m], which of them count as copies by
    `raymia.metrics.synthetic_copies.copy_ratio`.
    """

    generated: NDArray[np.uint8]
    training: NDArray[np.uint8]
    distances: NDArray[np.float64]
    copies: NDArray[np.bool_]

    def closest(self, count: int) -> "Pairs":
        """The `count` pairs of least distance, nearest first."""
        order = np.argsort(self.distances, kind="stable")[:count]
        return Pairs(self.generated[order], self.training[order], self.distances[order], self.copies[order])


def contact_sheet(
    kept: Samples, rejected: Samples, pairs: Pairs, class_names: Sequence[str], title: str, subtitle: str
) -> Figure:
    """A row a class, with its first kept and first rejected images, and a strip of the pairs of least distance.

    An image stands in the row of the class it was drawn for, else of the class the classifier gave. Of more than
    `MOST_CLASSES` classes as many are shown, evenly spaced. Small images keep their pixels visible. Nothing is chosen
    by its looks. Raises ValueError for images of neither one nor three channels.
    """
    shown = shown_classes(len(class_names))
    head, foot = textwrap.wrap(subtitle, _TEXT_CHARACTERS), notes(len(class_names))
    columns = _TITLE + len(head) * _TEXT_LINE + 0.08
    height = columns + _COLUMNS + len(shown) * _ROW_STEP + _STRIP + len(foot) * _TEXT_LINE + 0.1
    figure = new_figure(_WIDTH, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    page = _Page(axes, height)
    page.text(_EDGE, 0.13, title, size=12, weight="bold")
    for number, line in enumerate(head):
        page.text(_EDGE, _TITLE + number * _TEXT_LINE, line, size=8.5, color=QUIET)
    page.text(_NAMES, columns + 0.06, "kept, with confidence", size=8.5, weight="bold")
    page.text(_REJECTED_LEFT, columns + 0.06, "rejected, and why", size=8.5, weight="bold", color=_WARNING)
    for number, label in enumerate(shown):
        _class_row(page, label, class_names, kept, rejected, columns + _COLUMNS + number * _ROW_STEP)
    strip = columns + _COLUMNS + len(shown) * _ROW_STEP
    _strip(page, pairs.closest(CLOSEST), strip)
    for number, line in enumerate(foot):
        page.text(_EDGE, strip + _STRIP + number * _TEXT_LINE, line, size=8, color=QUIET)
    # Drawing an image sets the limits to it.
    axes.set(xlim=(0, _WIDTH), ylim=(0, height), aspect="auto")
    return figure


def write_contact_sheet(
    folder: Path,
    kept: Samples,
    rejected: Samples,
    pairs: Pairs,
    class_names: Sequence[str],
    title: str,
    subtitle: str,
) -> tuple[Path, Path]:
    """Write `contact_sheet.png` and `.svg` (equal images give equal bytes); returns both paths."""
    return write_figure(contact_sheet(kept, rejected, pairs, class_names, title, subtitle), folder, "contact_sheet")


def shown_classes(classes: int) -> list[int]:
    """The classes that get a row: all, or `MOST_CLASSES` of them evenly spaced."""
    return np.unique(np.linspace(0, classes - 1, min(classes, MOST_CLASSES)).round().astype(int)).tolist()


def notes(classes: int) -> list[str]:
    """What a reader must know to read the sheet, as sentences."""
    found = [
        "The first images of each class by id are shown: not chosen by looks.",
        "copy: less than half as far from its nearest training image as from its 50 nearest ones on average.",
    ]
    left_out = classes - len(shown_classes(classes))
    if left_out:
        found.append(f"{left_out} of {classes} classes are left out; those shown are evenly spaced in the list.")
    return found


@dataclass(frozen=True)
class _Page:
    """One sheet to write on: inches from the left and from the top."""

    axes: Axes
    height: float

    def text(self, x: float, y: float, text: str, *, size: float, color: str = INK, **options: Any) -> None:
        # Class names are data: a $ in them is no formula.
        self.axes.text(x, self.height - y, text, fontsize=size, color=color, parse_math=False, va="top", **options)

    def image(self, x: float, y: float, image_HWC: NDArray[np.uint8], name: str, *, warned: bool) -> None:
        """The image in a square frame; `warned` frames it in the warning color and strikes the corner out."""
        left, top = x, self.height - y
        self.axes.imshow(
            _drawable(image_HWC),
            extent=(left, left + _IMAGE, top - _IMAGE, top),
            cmap="gray",
            vmin=0,
            vmax=255,
            interpolation="nearest",
            gid=name,
        )
        color, line = (_WARNING, 1.6) if warned else ("#BBBBBB", 0.6)
        self.axes.add_patch(
            Rectangle((left, top - _IMAGE), _IMAGE, _IMAGE, fill=False, edgecolor=color, linewidth=line)
        )


def _class_row(
    page: _Page, label: int, class_names: Sequence[str], kept: Samples, rejected: Samples, top: float
) -> None:
    name = class_names[label]
    lines = textwrap.wrap(name, _NAME_CHARACTERS, max_lines=2, placeholder="…") or [name]
    page.text(_EDGE, top + (0.18 if len(lines) == 1 else 0.1), "\n".join(lines), size=8.5, weight="bold")
    middle = _IMAGE / 2
    below = top + _IMAGE + 0.03
    rows = _rows_of(kept, label)[:KEPT]
    for column, row in enumerate(rows):
        x = _NAMES + column * _KEPT_STEP
        page.image(x, top, kept.images[row], f"{name}/kept/{column}", warned=False)
        page.text(x + middle, below, f"{kept.confidences[row]:.2f}", size=7, ha="center")
    if not len(rows):
        page.text(_NAMES, top + 0.18, "none kept", size=8, color=_WARNING)
    for column, row in enumerate(_rows_of(rejected, label)[:REJECTED]):
        x = _REJECTED_LEFT + column * _REJECTED_STEP
        page.image(x, top, rejected.images[row], f"{name}/rejected/{column}", warned=True)
        page.text(x + middle, below, f"{rejected.confidences[row]:.2f}", size=7, ha="center", color=_WARNING)
        reason = _reason(int(rejected.conditions[row]), int(rejected.labels[row]), class_names)
        page.text(x + middle, below + 0.11, reason, size=6, ha="center", color=_WARNING)


def _strip(page: _Page, pairs: Pairs, top: float) -> None:
    page.axes.axhline(page.height - top, color="#DDDDDD", linewidth=0.8)
    page.text(_EDGE, top + 0.08, "Closest to a training image, with the distance", size=9, weight="bold")
    first, second = top + 0.34, top + 0.34 + _IMAGE + 0.08
    page.text(_EDGE, first + 0.18, "generated", size=8.5)
    page.text(_EDGE, second + 0.12, "its nearest\nin training", size=8.5, linespacing=1.1)
    for column, (made, real, distance, copy) in enumerate(
        zip(pairs.generated, pairs.training, pairs.distances, pairs.copies, strict=True)
    ):
        x = _NAMES + column * _PAIR_STEP
        page.image(x, first, made, f"closest/generated/{column}", warned=bool(copy))
        page.image(x, second, real, f"closest/training/{column}", warned=bool(copy))
        words = f"{distance:.2f}" + (" copy" if copy else "")
        page.text(x + _IMAGE / 2, second + _IMAGE + 0.03, words, size=7, ha="center", color=_WARNING if copy else INK)


def _rows_of(samples: Samples, label: int) -> NDArray[np.int64]:
    classes = np.where(samples.conditions >= 0, samples.conditions, samples.labels)
    return np.flatnonzero(classes == label)


def _reason(condition: int, label: int, class_names: Sequence[str]) -> str:
    if condition in (-1, label):
        return "below threshold"
    return f"seen as {_short(class_names[label], _REASON_CHARACTERS)}"


def _short(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _drawable(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image_HWC.shape[-1] not in (1, 3):
        raise ValueError(f"an image of {image_HWC.shape[-1]} channels cannot be drawn: 1 or 3")
    return image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC
