"""The live view: bars on a terminal, rare lines in a log, silence when quiet."""

import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from raymia.report.live import LiveView, Progress, Running, render

PROGRESS = Progress(
    settings_done=3,
    settings_total=6,
    models_done=41,
    models_total=80,
    models_reused=12,
    running=(Running("mixup alpha=0.3 target 2", 12, 30), Running("generator · target 0", 1500, 20000, "iteration")),
    best="mixup alpha=0.5: worst attack AUC 0.834",
    eta_seconds=83.0,
    failures=1,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def log_view(quiet: bool = False) -> tuple[LiveView, StringIO, Clock]:
    file, clock = StringIO(), Clock()
    return LiveView(Console(file=file, width=60), quiet, clock=clock), file, clock


def test_a_log_gets_one_line_every_fifteen_seconds_at_most() -> None:
    view, file, clock = log_view()
    with view:
        for seconds in (100.0, 101.0, 114.9, 115.0, 116.0, 130.0):
            clock.now = seconds
            view.update(replace(PROGRESS, models_done=int(seconds)))
    lines = file.getvalue().splitlines()
    assert [re.findall(r"models (\d+)/80", line) for line in lines] == [["100"], ["115"], ["130"]]
    assert "\x1b" not in file.getvalue()


def test_a_line_of_the_log_says_all_in_one_line() -> None:
    view, file, _ = log_view()
    with view:
        view.update(PROGRESS)
    assert file.getvalue() == (
        "settings 3/6, models 41/80 (12 reused), 2 running, time left 1 min 23 s, 1 failed, "
        "best so far: mixup alpha=0.5: worst attack AUC 0.834\n"
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_says_nothing_but_warnings(terminal: bool) -> None:
    file = StringIO()
    with LiveView(Console(file=file, force_terminal=terminal, width=100), quiet=True) as view:
        view.update(PROGRESS)
        assert file.getvalue() == ""
        view.warn("the tracking server is away [1]")
    assert "warning: the tracking server is away [1]" in file.getvalue()


def test_a_terminal_shows_bars_and_is_left_clean() -> None:
    file = StringIO()
    console = Console(file=file, force_terminal=True, width=100, height=40, legacy_windows=False)
    with LiveView(console) as view:
        view.update(PROGRESS)
        view._live.refresh()
        shown = file.getvalue()
        view.warn("one target diverged")
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)
    for phrase in (
        "3/6 settings, 1 failed",
        "41/80 models (12 reused), time left 1 min 23 s",
        "epoch 12/30",
        "iteration 1,500/20,000",
    ):
        assert phrase in plain
    for phrase in ("mixup alpha=0.3 target 2", "generator · target 0", "best so far  mixup alpha=0.5", "━"):
        assert phrase in plain
    assert "warning: one target diverged" in file.getvalue()
    # Transient: the last thing written erases the lines of the view (EL) and shows the cursor again.
    assert file.getvalue().rstrip("\n").endswith("\x1b[2K")
    assert "\x1b[?25h" in file.getvalue()


def test_the_view_ends_with_an_error_and_lets_it_through() -> None:
    file = StringIO()
    view = LiveView(Console(file=file, force_terminal=True, width=100))
    with pytest.raises(RuntimeError, match="stop"), view:
        raise RuntimeError("stop")
    assert "\x1b[?25h" in file.getvalue()
    before = file.getvalue()
    view.warn("after the end")
    assert file.getvalue() != before


@pytest.mark.parametrize("width", [60, 80, 120])
def test_many_models_and_long_names_neither_wrap_nor_flood(width: int) -> None:
    crowd = tuple(Running(f"relaxloss alpha=1 variant=cifar_code reference {index}", 1, 200) for index in range(64))
    file = StringIO()
    Console(file=file, width=width).print(render(replace(PROGRESS, running=crowd, best="long " * 60)))
    lines = file.getvalue().splitlines()
    assert len(lines) <= 2 + 8 + 1 + 1
    assert max(map(len, lines)) <= width
    assert "and 56 more" in file.getvalue()


def test_a_study_with_nothing_to_train_is_whole_not_an_error() -> None:
    empty = Progress(0, 0, 0, 0, 0, (), None, None, 0)
    file = StringIO()
    Console(file=file, width=80).print(render(empty))
    assert "0/0 models, time left unknown" in file.getvalue()
