import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.errors import InputError
from raymia.metrics.frontier import (
    on_frontier,
    p_on_frontier,
    resampled_means,
    share_on_frontier,
    worst_attack,
)
from raymia.metrics.intervals import Interval, t_interval

MAXIMIZE = (True, False)

# A coarse grid, so that equal settings and equal objectives are common.
POINTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12)


def beats(mine: tuple[int, int], other: tuple[int, int]) -> bool:
    """At least as good on both (first up, second down) and not equal."""
    return mine[0] >= other[0] and mine[1] <= other[1] and mine != other


@given(POINTS)
def test_the_frontier_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    on = on_frontier(points, MAXIMIZE)
    best = [point for point, there in zip(points, on, strict=True) if there]
    assert best
    for point, there in zip(points, on, strict=True):
        assert there != any(beats(other, point) for other in points)
        assert there or any(beats(other, point) for other in best)


@given(POINTS, st.integers(0, 2**31))
def test_the_frontier_ignores_order_and_scale(points: list[tuple[int, int]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(points))
    moved = np.array(points)[order] * [0.01, 3.0] - 5
    np.testing.assert_array_equal(on_frontier(moved, MAXIMIZE), on_frontier(points, MAXIMIZE)[order])


def test_equal_settings_share_the_frontier() -> None:
    assert on_frontier([(0.9, 0.6), (0.9, 0.6), (0.9, 0.61)], MAXIMIZE).tolist() == [True, True, False]


def test_three_objectives() -> None:
    objectives = [(0.9, 0.6, 0.1), (0.9, 0.7, 0.2), (0.8, 0.7, 0.1)]
    assert on_frontier(objectives, (True, False, True)).tolist() == [True, True, False]


def test_bad_objectives_are_refused() -> None:
    with pytest.raises(InputError, match="NaN"):
        on_frontier([(0.9, np.nan)], MAXIMIZE)
    with pytest.raises(InputError, match=r"\[settings, D\]"):
        on_frontier([(0.9, 0.5, 0.5)], MAXIMIZE)
    with pytest.raises(InputError, match="seeds"):
        p_on_frontier([(0.9, 0.5)], MAXIMIZE, np.random.default_rng(0))


def test_p_is_sure_where_one_setting_always_wins() -> None:
    objectives = np.array([[(0.9, 0.5), (0.8, 0.6), (0.7, 0.7)], [(0.8, 0.6), (0.7, 0.7), (0.6, 0.8)]])
    # The seeds differ more than the settings: only resamples that take the same seeds for both see it.
    assert p_on_frontier(objectives, MAXIMIZE, np.random.default_rng(0)).tolist() == [1, 0]


def test_p_is_the_share_of_resamples() -> None:
    # Equal accuracy; setting 0 has the lower AUC in one of two seeds, by less than setting 1 in the other.
    objectives = np.array([[(0.9, 0.5), (0.9, 0.7)], [(0.9, 0.6), (0.9, 0.5)]])
    p = p_on_frontier(objectives, MAXIMIZE, np.random.default_rng(1), draws=4000)
    # Of the resamples {0,0}, {0,1}, {1,0}, {1,1} it wins the first only.
    assert p == pytest.approx([0.25, 0.75], abs=0.03)
    np.testing.assert_array_equal(p, p_on_frontier(objectives, MAXIMIZE, np.random.default_rng(1), draws=4000))


def test_a_single_seed_has_no_p_and_does_not_compete() -> None:
    known = [(0.5, 0.7), (0.5, 0.8)]
    objectives = np.array([known, [(0.9, 0.5), (np.nan, 0.5)]])
    p = p_on_frontier(objectives, MAXIMIZE, np.random.default_rng(2))
    assert p[0] == 1
    assert np.isnan(p[1])
    assert np.isnan(p_on_frontier(objectives[:, :1], MAXIMIZE, np.random.default_rng(2))).all()


def test_means_of_what_was_drawn() -> None:
    means = resampled_means([[1.0, 2.0, np.nan]], np.array([[2, 1, 0], [0, 0, 3], [1, 1, 1]]))
    np.testing.assert_allclose(means[:, 0], [4 / 3, np.nan, 1.5])
    shares = share_on_frontier(np.stack([means, means], axis=2), MAXIMIZE)
    assert shares.tolist() == [1.0]


def test_the_worst_attack_holds_for_all_attacks_at_once() -> None:
    loss, network = [0.60, 0.62, 0.61], [0.50, 0.70, 0.61]
    worst = worst_attack({"loss": loss, "network": network})
    each = [t_interval(aucs, 0.025) for aucs in (loss, network)]
    assert worst.attack == "loss"
    assert worst.auc == pytest.approx(0.61)
    assert worst.interval is not None
    assert each[0] is not None
    assert each[1] is not None
    # The noisier attack could be the worse one: its upper end is the bound.
    assert (worst.interval.low, worst.interval.high) == (each[0].low, min(each[1].high, 1.0))
    assert worst_attack({"loss": [0.6], "network": [0.7]}).interval is None
    fallback = {"loss": Interval(0.5, 0.75), "network": Interval(0.6, 0.72)}
    assert worst_attack({"loss": [0.6], "network": [0.7]}, fallback=fallback).interval == Interval(0.6, 0.75)


def test_no_attack_is_refused() -> None:
    with pytest.raises(InputError, match="none measured"):
        worst_attack({})


def test_the_worst_of_several_attacks_is_covered() -> None:
    """Four attacks with close true AUCs: the largest mean is optimistic, the interval holds nevertheless."""
    rng = np.random.default_rng(3)
    truth = np.array([0.58, 0.60, 0.60, 0.60])
    covered = []
    for _ in range(1000):
        aucs = truth[:, None] + rng.normal(0, 0.03, (4, 5))
        interval = worst_attack({str(index): row.tolist() for index, row in enumerate(aucs)}).interval
        assert interval is not None
        covered.append(truth.max() in interval)
    assert np.mean(covered) >= 0.95
