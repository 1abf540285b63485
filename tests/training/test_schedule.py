"""Learning rates by hand."""

import math
from itertools import pairwise

import pytest

from raymia.training.schedule import rate_factor
from tests.training.conftest import small_config


@pytest.mark.parametrize(
    ("progress", "factor"), [(0, 1), (0.4999, 1), (0.5, 0.1), (0.7499, 0.1), (0.75, 0.01), (0.9999, 0.01)]
)
def test_steps_multiply_at_each_milestone(progress: float, factor: float) -> None:
    config = small_config(schedule="step", milestones=(0.5, 0.75), gamma=0.1, warmup=0)
    assert rate_factor(config, progress) == pytest.approx(factor)


def test_the_order_of_milestones_does_not_matter() -> None:
    config = small_config(schedule="step", milestones=(0.75, 0.5), gamma=0.5, warmup=0)
    assert [rate_factor(config, progress) for progress in (0.4, 0.6, 0.8)] == [1, 0.5, 0.25]


@pytest.mark.parametrize(("progress", "factor"), [(0, 1), (1 / 3, 0.75), (0.5, 0.5), (2 / 3, 0.25), (1, 0)])
def test_cosine_falls_from_one_to_zero(progress: float, factor: float) -> None:
    assert rate_factor(small_config(schedule="cosine", warmup=0), progress) == pytest.approx(factor, abs=1e-12)


def test_constant_is_constant() -> None:
    assert {rate_factor(small_config(schedule="constant", warmup=0), step / 7) for step in range(7)} == {1.0}


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_warm_up_rises_in_a_line_to_the_full_rate(schedule: str) -> None:
    config = small_config(schedule=schedule, warmup=0.2, milestones=(0.5,))
    rising = [rate_factor(config, progress) for progress in (0, 0.05, 0.1, 0.15)]
    assert 0 < rising[0] < 0.01
    steps = [late - early for early, late in pairwise(rising)]
    assert steps == pytest.approx([0.05 / 0.201] * 3)
    assert rate_factor(config, 0.2) == pytest.approx(1)


def test_cosine_after_warm_up_takes_what_is_left() -> None:
    config = small_config(schedule="cosine", warmup=0.2)
    assert rate_factor(config, 0.6) == pytest.approx(0.5)
    assert rate_factor(config, 0.4) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_all_warm_up_never_divides_by_zero() -> None:
    config = small_config(schedule="cosine", warmup=1)
    assert 0 < rate_factor(config, 0.5) < 1
