"""The view of a running study: bars on a terminal, a rare plain line in a log, nothing when quiet."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from raymia.report.time_left import duration

REFRESHES_PER_SECOND = 4
SECONDS_BETWEEN_LINES = 15.0
_SHOWN_MODELS = 8


@dataclass(frozen=True)
class Running:
    """Something in the making. unit: what `done` of `total` counts: epochs, iterations, images."""

    label: str
    done: int
    total: int
    unit: str = "epoch"


@dataclass(frozen=True)
class Progress:
    """Where a study stands; with no settings in all, the making of something else.

    models_done and models_total include the models_reused from earlier runs. running: what is made right now. best:
    the best trade-off so far, one line. eta_seconds: None while unknown.
    """

    settings_done: int
    settings_total: int
    models_done: int
    models_total: int
    models_reused: int
    running: tuple["Running", ...]
    best: str | None
    eta_seconds: float | None
    failures: int


class LiveView:
    """Shows a study's progress while it is entered; leaves nothing behind on a terminal.

    quiet: no progress at all; warnings still come through. clock: seconds, for the pace of plain lines.
    """

    def __init__(self, console: Console, quiet: bool = False, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._quiet = quiet
        self._clock = clock
        self._live: Live | None = None
        self._last_line: float | None = None

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                Text("starting"),
                console=self._console,
                transient=True,
                refresh_per_second=REFRESHES_PER_SECOND,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, progress: Progress) -> None:
        """Show where the study stands. Cheap: call it as often as anything changes."""
        if self._quiet:
            return
        if self._live is not None:
            self._live.update(render(progress))
            return
        now = self._clock()
        if self._last_line is None or now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._print(plain_line(progress))

    def warn(self, message: str) -> None:
        """Print one warning line, above the bars; also when quiet."""
        self._print(f"warning: {message}", style="yellow")

    def _print(self, line: str, style: str | None = None) -> None:
        self._console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def plain_line(progress: Progress) -> str:
    """The study in one line of a log."""
    parts = [
        *([f"settings {progress.settings_done}/{progress.settings_total}"] if progress.settings_total else []),
        f"models {progress.models_done}/{progress.models_total}{_reused(progress)}",
        f"{len(progress.running)} running",
        _left(progress),
    ]
    if progress.failures:
        parts.append(f"{progress.failures} failed")
    if progress.best:
        parts.append(f"best so far: {progress.best}")
    return ", ".join(parts)


def render(progress: Progress) -> Group:
    """The study as bars, what runs, the best trade-off so far: no line wraps."""
    bars = Table.grid(padding=(0, 2, 0, 0))
    bars.add_column(no_wrap=True, style="bold")
    bars.add_column(width=24)
    bars.add_column(no_wrap=True, overflow="ellipsis")
    settings = Text(f"{progress.settings_done}/{progress.settings_total} settings")
    if progress.failures:
        settings.append(f", {progress.failures} failed", style="bold red")
    if progress.settings_total:
        bars.add_row("study", _bar(progress.settings_done, progress.settings_total), settings)
    models = Text(f"{progress.models_done}/{progress.models_total} models{_reused(progress)}, {_left(progress)}")
    bars.add_row("models", _bar(progress.models_done, progress.models_total), models)
    parts: list[Table | Text] = [bars]
    if progress.running:
        parts.append(_running(progress.running))
    if progress.best:
        best = Text("best so far  ", style="bold", no_wrap=True, overflow="ellipsis")
        parts.append(best.append(progress.best, style="not bold"))
    return Group(*parts)


def _running(running: tuple[Running, ...]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, overflow="ellipsis", min_width=20)
    grid.add_column(width=12)
    grid.add_column(no_wrap=True)
    for one in running[:_SHOWN_MODELS]:
        text = Text(f"{one.unit} {one.done:,}/{one.total:,}")
        grid.add_row(Text(f"  {one.label}", style="dim"), _bar(one.done, one.total), text)
    if len(running) > _SHOWN_MODELS:
        grid.add_row(Text(f"  and {len(running) - _SHOWN_MODELS} more", style="dim"), "", "")
    return grid


def _bar(done: int, total: int) -> ProgressBar:
    # A total of zero is a study with nothing to do: a full bar, not a division by zero.
    return ProgressBar(total=max(total, 1), completed=done if total else 1)


def _reused(progress: Progress) -> str:
    return f" ({progress.models_reused} reused)" if progress.models_reused else ""


def _left(progress: Progress) -> str:
    return "time left unknown" if progress.eta_seconds is None else f"time left {duration(progress.eta_seconds)}"
