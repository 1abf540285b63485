"""Time left, against known answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.report.time_left import TimeLeft, duration


def test_a_steady_pace_is_continued() -> None:
    left = TimeLeft(10)
    assert left.look(100.0, 0) is None
    assert left.look(110.0, 1) == pytest.approx(90.0)
    assert left.look(120.0, 2) == pytest.approx(80.0)


def test_between_two_models_the_time_counts_down_and_an_overdue_one_takes_no_more_than_its_own() -> None:
    left = TimeLeft(10)
    left.look(0.0, 0)
    left.look(10.0, 1)
    assert left.look(14.0, 1) == pytest.approx(86.0)
    assert left.look(500.0, 1) == pytest.approx(80.0)


def test_half_trained_models_count() -> None:
    left = TimeLeft(4)
    left.look(0.0, 0)
    assert left.look(30.0, 0.5) == pytest.approx(210.0)


def test_the_pace_is_that_of_the_last_models() -> None:
    left = TimeLeft(30, window=5)
    for models in range(11):
        left.look(float(models), models)
    for models in range(11, 21):
        last = left.look(10.0 + 7 * (models - 10), models)
    assert last == pytest.approx(70.0)


def test_a_resumed_study_counts_what_this_run_trains() -> None:
    left = TimeLeft(6)
    left.look(0.0, 2)
    assert left.look(10.0, 4) == pytest.approx(10.0)


def test_a_finished_study_has_no_time_left() -> None:
    left = TimeLeft(2)
    left.look(0.0, 0)
    assert left.look(5.0, 2) == 0.0
    assert TimeLeft(0).look(0.0, 0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), min_size=1, max_size=60))
def test_time_left_is_never_negative(steps: list[tuple[float, float]]) -> None:
    left, seconds, models = TimeLeft(20), 0.0, 0.0
    for wait, more in steps:
        seconds, models = seconds + wait, min(20.0, models + more)
        found = left.look(seconds, models)
        assert found is None or found >= 0.0


def test_a_fast_clock_does_not_fill_the_memory() -> None:
    left = TimeLeft(100, window=4)
    for tick in range(20_000):
        left.look(tick / 4, tick / 400)
    assert len(left._samples) <= 4 / 0.05 + 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (83, "1 min 23 s"),
        (3600, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (277200, "3 d 5 h"),
    ],
)
def test_a_duration_is_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
