"""DeLong, the bootstraps and the closed forms: known answers and independent computations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.metrics import bootstrap
from raymia.metrics.bootstrap import (
    balanced_accuracy_metric,
    cluster_draws,
    record_draws,
    tpr_interval,
    tpr_metric,
)
from raymia.metrics.delong import (
    auc_interval,
    delong_variance,
    paired_auc_difference,
    widen_auc_interval,
)
from raymia.metrics.intervals import (
    Interval,
    fixed_balanced_accuracy,
    paired_t_interval,
    resampled_t_interval,
    t_interval,
    wilson,
)
from raymia.metrics.roc import auc, auc_of, balanced_accuracy, group_scores, tpr_at_fpr, tpr_point

Scores = NDArray[np.float64]
Audit = tuple[Scores, NDArray[np.bool_]]


def audit(members: int, nonmembers: int, shift: float, seed: int, decimals: int = 1) -> Audit:
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(shift, 1, members), rng.normal(0, 1, nonmembers)])
    return np.round(scores, decimals), np.arange(members + nonmembers) < members


def kernel(scores: Scores, member: NDArray[np.bool_]) -> Scores:
    """Every pair's contribution to the AUC: float64[members, non-members]."""
    mine, other = scores[member][:, None], scores[~member][None, :]
    return (mine > other) + (mine == other) / 2


def covariance_by_pairs(first: Scores, second: Scores) -> float:
    """DeLong's covariance from the O(MN) table of pairs, equation 5 of the paper."""
    of_members = np.cov(first.mean(axis=1), second.mean(axis=1))[0, 1] / first.shape[0]
    of_nonmembers = np.cov(first.mean(axis=0), second.mean(axis=0))[0, 1] / first.shape[1]
    return float(of_members + of_nonmembers)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=15), st.lists(st.integers(0, 5), min_size=2, max_size=15))
def test_delong_equals_the_table_of_pairs(members: list[int], nonmembers: list[int]) -> None:
    scores = np.array(members + nonmembers, dtype=float)
    member = np.arange(len(scores)) < len(members)
    pairs = kernel(scores, member)
    assert delong_variance(group_scores(scores, member)) == pytest.approx(covariance_by_pairs(pairs, pairs), abs=1e-14)


def test_delong_equals_the_bootstrap() -> None:
    scores, member = audit(300, 200, 0.7, seed=1)
    rng = np.random.default_rng(2)
    draws = [
        auc(np.concatenate([rng.choice(scores[member], 300), rng.choice(scores[~member], 200)]), member)
        for _ in range(3000)
    ]
    assert np.std(draws) == pytest.approx(np.sqrt(delong_variance(group_scores(scores, member))), rel=0.06)


def test_paired_delong_equals_the_table_of_pairs() -> None:
    ours, member = audit(40, 60, 1.0, seed=3)
    theirs = np.round(ours * 0.5 + np.random.default_rng(4).normal(size=100), 1)
    first, second = kernel(ours, member), kernel(theirs, member)
    variance = (
        covariance_by_pairs(first, first) + covariance_by_pairs(second, second) - 2 * covariance_by_pairs(first, second)
    )
    difference, interval = paired_auc_difference(ours, theirs, member)
    assert difference == pytest.approx(first.mean() - second.mean(), abs=1e-12)
    assert interval.width == pytest.approx(2 * 1.959964 * np.sqrt(variance), rel=1e-6)
    # Scores of the same records agree, so the pair is sharper than two independent audits.
    apart = covariance_by_pairs(first, first) + covariance_by_pairs(second, second)
    assert variance < 0.8 * apart


@pytest.mark.parametrize(("members", "nonmembers"), [(1, 1), (1, 50), (50, 1), (150, 150)])
@pytest.mark.parametrize("shift", [-1e6, 0.0, 1e6])
def test_auc_interval_is_never_certain(members: int, nonmembers: int, shift: float) -> None:
    scores = np.concatenate([np.full(members, shift), np.zeros(nonmembers)])
    groups = group_scores(scores, np.arange(len(scores)) < members)
    interval = auc_interval(groups)
    assert 0 <= interval.low < interval.high <= 1
    assert auc_of(groups) in interval


def test_perfect_separation_has_the_exact_bound_of_disjoint_pairs() -> None:
    scores, member = np.arange(300.0), np.arange(300) >= 150
    # If the AUC were `low`, 150 independent pairs would all be in order with chance 2.5%.
    assert auc_interval(group_scores(scores, member)).low ** 150 == pytest.approx(0.025)
    assert auc_interval(group_scores(-scores, member)).high == pytest.approx(1 - 0.025 ** (1 / 150))
    same, interval = paired_auc_difference(scores, scores, member)
    assert same == 0
    assert interval.low == pytest.approx(-(1 - 0.025 ** (1 / 150)))
    assert interval.high == pytest.approx(1 - 0.025 ** (1 / 150))


@given(st.integers(0, 200), st.floats(-0.5, 2.5))
def test_auc_interval_mirrors_and_stays_inside(seed: int, shift: float) -> None:
    scores, member = audit(12, 9, shift, seed)
    interval = auc_interval(group_scores(scores, member))
    mirrored = auc_interval(group_scores(-scores, member))
    assert 0 <= interval.low < interval.high <= 1
    assert auc(scores, member) in interval
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - interval.high, 1 - interval.low), abs=1e-9)


@pytest.mark.parametrize("shift", [0.4, 50.0, -50.0])
def test_widening_gives_the_interval_of_the_other_level(shift: float) -> None:
    groups = group_scores(*audit(80, 70, shift, seed=5))
    widened = widen_auc_interval(auc_of(groups), auc_interval(groups), 0.0125)
    direct = auc_interval(groups, 0.0125)
    assert (widened.low, widened.high) == pytest.approx((direct.low, direct.high), abs=1e-9)
    assert widened.width > auc_interval(groups).width


def test_draws_agree_with_the_plain_metrics() -> None:
    """A resample's metric is the metric of the resampled records, threshold chosen anew."""
    scores, member = audit(30, 25, 0.8, seed=6)
    groups = group_scores(scores, member)
    draws = record_draws(groups, [tpr_metric(0.1), balanced_accuracy_metric], np.random.default_rng(7), 40)
    assert draws.shape == (40, 2)
    rng = np.random.default_rng(7)
    mine = scores[member][rng.integers(0, 30, (40, 30))]
    other = scores[~member][rng.integers(0, 25, (40, 25))]
    for row in range(40):
        drawn = np.concatenate([mine[row], other[row]])
        order = np.arange(55) < 30
        assert draws[row, 0] == pytest.approx(tpr_at_fpr(drawn, order, 0.1).tpr)
        assert draws[row, 1] == pytest.approx(balanced_accuracy(drawn, order))


def test_draws_repeat_and_do_not_depend_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = group_scores(*audit(50, 50, 0.5, seed=8))
    whole = record_draws(groups, [tpr_metric(0.1)], np.random.default_rng(9), 64)
    np.testing.assert_array_equal(whole, record_draws(groups, [tpr_metric(0.1)], np.random.default_rng(9), 64))
    assert not np.array_equal(whole, record_draws(groups, [tpr_metric(0.1)], np.random.default_rng(10), 64))
    sizes = []
    original = bootstrap._redrawn

    def watched(group: object, groups: int, rows: int, rng: object) -> object:
        sizes.append(rows)
        return original(group, groups, rows, rng)  # type: ignore[arg-type]

    monkeypatch.setattr(bootstrap, "_redrawn", watched)
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 1000)
    assert record_draws(groups, [tpr_metric(0.1)], np.random.default_rng(9), 64).shape == (64, 1)
    assert max(sizes) <= 1000 // 50
    assert sum(sizes) == 2 * 64


def test_cluster_draws_take_whole_targets() -> None:
    """The draws are the metric of every multiset of whole targets, and of nothing else."""
    audits = [audit(10, 12, shift, 20 + index, decimals=6) for index, shift in enumerate((0.0, 0.7, 2.0))]
    scores = np.concatenate([one[0] for one in audits])
    member = np.concatenate([one[1] for one in audits])
    target = np.repeat([0, 1, 2], 22)
    groups = group_scores(scores, member)
    rng = np.random.default_rng(0)
    draws = cluster_draws(groups, target[member], target[~member], [tpr_metric(0.3)], rng, 400)
    possible = set()
    for chosen in np.ndindex(3, 3, 3):
        joined = [np.concatenate([audits[index][part] for index in chosen]) for part in (0, 1)]
        possible.add(round(tpr_at_fpr(joined[0], joined[1], 0.3).tpr, 9))
    assert {round(float(value), 9) for value in draws[:, 0]} == possible
    assert len(possible) > 5


def test_resampled_interval_agrees_with_student_t_for_a_mean() -> None:
    values = np.array([0.55, 0.60, 0.58, 0.66, 0.61])
    picks = np.random.default_rng(3).integers(0, 5, (40_000, 5))
    interval = resampled_t_interval(float(values.mean()), values[picks].mean(axis=1), 5)
    expected = t_interval(list(values))
    assert expected is not None
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-3)


def test_perfect_separation_leaves_doubt_about_the_tpr() -> None:
    groups = group_scores(np.arange(300.0), np.arange(300) >= 150)
    draws = record_draws(groups, [tpr_metric(0.1)], np.random.default_rng(0), 200)[:, 0]
    interval = tpr_interval(tpr_point(groups, 0.1), draws, 150)
    assert interval.high == 1
    assert 0.95 < interval.low < 0.99


def test_wilson_known_answer() -> None:
    # 81 of 263: Newcombe 1998 (proportions), table I.
    interval = wilson(81 / 263, 263)
    assert (interval.low, interval.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20).low == 0
    assert wilson(0.0, 20).high == pytest.approx(0.1611, abs=5e-5)


def test_fixed_balanced_accuracy_is_the_shifted_difference_of_newcombe() -> None:
    # Newcombe 1998 (differences), table II (a), method 10: 56/70 - 48/80 has the interval 0.0524 to 0.3339.
    interval = fixed_balanced_accuracy(56 / 70, 70, 48 / 80, 80)
    assert (2 * interval.low - 1, 2 * interval.high - 1) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert fixed_balanced_accuracy(1.0, 10, 0.0, 10).width > 0.1


def test_student_t_known_answer() -> None:
    # Mean 2, s = 1, n = 3: 2 +- 4.302653 / sqrt(3).
    interval = t_interval([1.0, 2.0, 3.0])
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((-0.484138, 4.484138), abs=1e-6)
    assert t_interval([0.6]) is None
    assert t_interval([]) is None


def test_pairing_removes_what_the_seeds_share() -> None:
    theirs = [0.50, 0.60, 0.70, 0.80]
    ours = [0.46, 0.55, 0.66, 0.75]
    paired = paired_t_interval(ours, theirs)
    assert paired is not None
    assert paired.high < 0
    assert paired_t_interval([0.5], [0.6]) is None


def test_interval_holds_its_ends() -> None:
    assert 0.5 in Interval(0.5, 0.6)
    assert 0.7 not in Interval(0.5, 0.6)
    assert Interval(-0.1, 1.2).clipped(0, 1) == Interval(0, 1)
