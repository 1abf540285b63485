"""Targets that agree leave the doubt of their records, and what is equal on paper is equal, whatever the rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.metrics.comparison import LESS, SAME
from raymia.metrics.frontier import on_frontier, share_on_frontier
from raymia.metrics.intervals import (
    Interval,
    difference_interval,
    resampled_t_interval,
    t_interval,
    welch_interval,
    wilson,
)
from raymia.metrics.membership import AttackMetrics, measure_attack, pool_targets
from tests.metrics.made_results import row, setting, table, withstanding

MEMBER = np.arange(300) < 150


def pooled_over(caught: list[int], accused: list[int]) -> AttackMetrics:
    """Targets of 150 + 150 records under an attack that only says member or not."""
    scores = [
        np.concatenate([np.arange(150) < hits, np.arange(150) < false]).astype(float)
        for hits, false in zip(caught, accused, strict=True)
    ]
    rng = np.random.default_rng(0)
    per_target = [measure_attack(one, MEMBER, rng) for one in scores]
    return pool_targets(per_target, scores, [MEMBER] * len(scores), rng, draws=200)


@given(st.integers(1, 149))
def test_the_same_count_caught_on_every_target_is_no_certainty(caught: int) -> None:
    point = pooled_over([caught] * 3, [0] * 3).tpr[0]
    assert point.tpr is not None
    assert point.low is not None
    assert point.high is not None
    expected = wilson(point.tpr, 450)
    assert (point.low, point.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_balanced_accuracies_equal_on_paper_are_no_certainty() -> None:
    # (TPR - FPR) is 59/150 on all three, and not to the last bit.
    found = pooled_over([108, 110, 100], [49, 51, 41]).balanced_accuracy
    assert found.value == pytest.approx(0.5 + 59 / 300)
    assert found.high - found.low > 0.05


@given(st.lists(st.integers(0, 150), min_size=2, max_size=6), st.integers(1, 6))
def test_sums_in_another_order_do_not_make_a_width(counts: list[int], parts: int) -> None:
    value = sum(count / 150 for count in counts)
    other = sum(count / 150 for count in reversed(counts))
    for values in ([value, other], [value, other, value]):
        interval = t_interval(values)
        assert interval is not None
        assert interval.width == 0
        welch = welch_interval(values, [other, value])
        assert welch is not None
        assert welch.width == 0
    draws = np.array([value, other] * parts)
    assert resampled_t_interval(value, draws, 2).width == 0


def test_a_difference_of_two_intervals_by_newcombe() -> None:
    found = difference_interval(0.7, Interval(0.6, 0.75), 0.5, Interval(0.46, 0.58))
    below, above = np.hypot(0.1, 0.08), np.hypot(0.05, 0.04)
    assert (found.low, found.high) == pytest.approx((0.2 - below, 0.2 + above))


def test_welch_is_scipys() -> None:
    from scipy import stats

    ours, theirs = [0.62, 0.71, 0.66, 0.7], [0.55, 0.61, 0.64]
    expected = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    found = welch_interval(ours, theirs)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert welch_interval([0.5], theirs) is None


def test_the_same_difference_on_every_seed_is_no_firm_verdict() -> None:
    undefended = setting("none", "none", [0.80, 0.84], {"loss": [0.62, 0.67], "entropy": [0.5, 0.51]})
    ours = setting("mixup", "mixup", [0.78, 0.82], {"loss": [0.61, 0.66], "entropy": [0.5, 0.51]})
    found = table([undefended, ours])
    for attack in ("loss", "entropy", "worst"):
        cells = row(found, "mixup", attack)
        assert cells["verdict"] == SAME
        low, high = cells["delta_auc_low"], cells["delta_auc_high"]
        assert isinstance(low, float)
        assert isinstance(high, float)
        assert low < cells["delta_auc"] < high  # type: ignore[operator]
        assert high - low > 0.02
    cells = row(found, "mixup", "loss")
    assert cells["delta_auc"] == pytest.approx(-0.01)
    assert cells["delta_test_accuracy"] == pytest.approx(-0.02)
    # By Newcombe from Student t's intervals of both: .254 to each side, as far as an accuracy can be 1.
    assert cells["delta_test_accuracy_low"] == pytest.approx(-0.02 - np.hypot(0.254, 0.18), abs=1e-3)


def test_a_difference_far_beyond_both_intervals_is_told_all_the_same() -> None:
    exact = {"loss": [0.9, 0.9, 0.9]}
    undefended = setting("none", "none", [0.8, 0.81, 0.82], exact)
    ours = setting("mixup", "mixup", [0.8, 0.81, 0.82], {"loss": [0.5, 0.5, 0.5]})
    cells = row(table([undefended, ours]), "mixup", "loss")
    assert cells["verdict"] == LESS
    assert cells["delta_auc"] == pytest.approx(-0.4)


def test_the_same_difference_of_robust_accuracy_up_to_rounding() -> None:
    undefended = withstanding(setting("none", "none", [0.8, 0.8], {"loss": [0.6, 0.7]}), 100, pgd20=[0.45, 0.50])
    ours = withstanding(setting("mixup", "mixup", [0.8, 0.8], {"loss": [0.6, 0.7]}), 100, pgd20=[0.53, 0.58])
    cells = row(table([undefended, ours]), "mixup", "worst")
    assert cells["delta_robust_accuracy"] == pytest.approx(0.08)
    low, high = cells["delta_robust_accuracy_low"], cells["delta_robust_accuracy_high"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert high - low > 0.1


def test_equal_accuracy_is_equal_whatever_the_order_of_the_targets() -> None:
    counts = ([128, 111, 121], [128, 121, 111])
    accuracies = [float(np.mean([count / 150 for count in each])) for each in counts]
    assert accuracies[0] != accuracies[1]  # in the last bit
    points = list(zip(accuracies, (0.60, 0.65), strict=True))
    assert on_frontier(points, (True, False)).tolist() == [True, False]
    assert on_frontier([(*point, accuracies[i]) for i, point in enumerate(points)], (True, False, True)).tolist() == [
        True,
        False,
    ]
    means = np.array([points])
    assert share_on_frontier(means, (True, False)).tolist() == [1.0, 0.0]
