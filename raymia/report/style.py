"""The look of every figure: colors, markers, and files whose bytes depend on the drawing alone."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from raymia.metrics.populations import DIRECT, INDIRECT
from raymia.report.rows import KNOWN_DEFENSES

PNG_DPI = 150
INK = "#222222"
QUIET = "#666666"

# Okabe and Ito's palette, told apart by color-blind readers; a marker of its own says it once more.
_KNOWN_LOOKS = (
    ("#000000", "*"),
    ("#0072B2", "o"),
    ("#E69F00", "s"),
    ("#009E73", "^"),
    ("#D55E00", "D"),
    ("#CC79A7", "v"),
    ("#5E2B97", "p"),
    ("#A50026", ">"),
)
_OTHER_LOOKS = (
    ("#56B4E9", "P"),
    ("#7F7F7F", "X"),
    ("#8C510A", "<"),
    ("#6B8E23", "h"),
    ("#3B5B66", "d"),
    ("#DE77AE", "8"),
    ("#1B7837", "H"),
)
# Strokes only: neither a defense's marker nor hollow.
POPULATION_MARKERS = {DIRECT: "x", INDIRECT: "+"}
LINE_COLORS = tuple(color for color, _ in (*_KNOWN_LOOKS[1:], *_OTHER_LOOKS))

# Text stays text in the SVG: it can be searched, read aloud and restyled.
_SETTINGS: Any = {"svg.hashsalt": "raymia", "svg.fonttype": "none"}


def looks(defenses: Iterable[str]) -> dict[str, tuple[str, str]]:
    """(color, marker) of each defense. A known defense has the same in every figure."""
    found = dict(zip(KNOWN_DEFENSES, _KNOWN_LOOKS, strict=True))
    others = [name for name in defenses if name not in found]
    found.update({name: _OTHER_LOOKS[index % len(_OTHER_LOOKS)] for index, name in enumerate(others)})
    return found


def new_figure(width: float, height: float) -> Figure:
    """A figure of its own canvas, in inches; no global state of matplotlib's plotting interface is touched."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Any) -> None:
    """A light frame: no upper and right spine, a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(labelsize=8, color=QUIET, labelcolor=INK)
    axes.grid(True, color="#EBEBEB", linewidth=0.6)
    axes.set_axisbelow(True)


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG at `PNG_DPI`: equal drawings give equal bytes."""
    return _bytes(figure, format="png", dpi=PNG_DPI, metadata={"Software": None})


def svg_bytes(figure: Figure) -> bytes:
    """The figure as SVG: equal drawings give equal bytes (fixed ids, no date)."""
    return _bytes(figure, format="svg", metadata={"Date": None})


def write_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write `<name>.png` and `<name>.svg` into the folder; returns both paths."""
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    png.write_bytes(png_bytes(figure))
    svg.write_bytes(svg_bytes(figure))
    return png, svg


def _bytes(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(buffer, **options)
    return buffer.getvalue()
