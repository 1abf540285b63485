"""Intervals cover as often as they say, by simulated audits whose truth is known, with ties."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from raymia.metrics.bootstrap import (
    balanced_accuracy_metric,
    best_balanced_accuracy_interval,
    record_draws,
    tpr_interval,
    tpr_metric,
)
from raymia.metrics.delong import auc_interval, paired_auc_difference
from raymia.metrics.membership import measure_attack, pool_targets
from raymia.metrics.roc import ScoreGroups, best_point, group_scores, tpr_point

AUCS = (0.5, 0.6, 0.9)
STEP = 0.1


def shift_of(area: float) -> float:
    """The distance of two unit normals with this AUC."""
    return float(special.ndtri(area) * np.sqrt(2))


def scores_of(shift: float, records: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Normal scores in steps of 0.1: most of them are tied."""
    return np.round(rng.normal(shift, 1, records) / STEP) * STEP


def tails(shift: float, spread: float = 1.0) -> NDArray[np.float64]:
    """P(score >= grid point), from the highest grid point down: the infinite audit."""
    edges = (np.arange(90, -91, -1) - 0.5) * STEP
    return special.ndtr(-(edges - shift) / spread)


def true_auc(shift: float) -> float:
    at_members, at_nonmembers = (np.diff(tails(one), prepend=0) for one in (shift, 0.0))
    return float(np.sum(at_nonmembers * (np.cumsum(at_members) - at_members / 2)))


def true_tpr(fpr: float, hits: NDArray[np.float64], alarms: NDArray[np.float64]) -> float:
    return float(hits[alarms <= fpr].max(initial=0))


def groups_of(shift: float, records: int, rng: np.random.Generator) -> ScoreGroups:
    scores = np.concatenate([scores_of(shift, records, rng), scores_of(0, records, rng)])
    return group_scores(scores, np.arange(2 * records) < records)


@pytest.mark.parametrize("area", AUCS)
def test_delong_covers(area: float) -> None:
    rng = np.random.default_rng(11)
    truth = true_auc(shift_of(area))
    covered = [truth in auc_interval(groups_of(shift_of(area), 150, rng)) for _ in range(1000)]
    assert 0.90 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("area", AUCS)
def test_paired_delong_covers(area: float) -> None:
    rng = np.random.default_rng(12)
    member = np.arange(200) < 100
    covered = []
    for _ in range(1000):
        shared = np.where(member, shift_of(area), 0) + rng.normal(size=200)
        noisy = (shared + rng.normal(size=200)) / np.sqrt(2)
        truth = area - special.ndtr(shift_of(area) / 2)
        _, interval = paired_auc_difference(np.round(shared, 2), np.round(noisy, 2), member)
        covered.append(truth in interval)
    assert 0.90 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("area", AUCS)
@pytest.mark.parametrize(("records", "fpr", "audits"), [(150, 0.1, 600), (1000, 0.01, 250)])
def test_bootstrap_intervals_cover(area: float, records: int, fpr: float, audits: int) -> None:
    """TPR, and balanced accuracy in spite of its optimism."""
    rng = np.random.default_rng(13)
    hits, alarms = tails(shift_of(area)), tails(0)
    truths = true_tpr(fpr, hits, alarms), 0.5 + max(0.0, float((hits - alarms).max())) / 2
    covered = np.zeros(2)
    for _ in range(audits):
        groups = groups_of(shift_of(area), records, rng)
        draws = record_draws(groups, [tpr_metric(fpr), balanced_accuracy_metric], rng, 200)
        tpr = tpr_interval(tpr_point(groups, fpr), draws[:, 0], records)
        balanced = best_balanced_accuracy_interval(best_point(groups), draws[:, 1], groups)
        covered += truths[0] in tpr, truths[1] in balanced
    print("TPR, balanced accuracy:", covered / audits)
    assert (covered / audits >= 0.90).all()
    assert (covered / audits <= 0.99).all()


@pytest.mark.parametrize("targets", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_pooled_intervals_cover(targets: int, spread: float) -> None:
    """Targets whose members' scores shift from seed to seed; the truth is over infinitely many targets."""
    rng = np.random.default_rng(15)
    shift = shift_of(0.6)
    broad = np.sqrt(1 + spread**2)
    tpr_truth = true_tpr(0.1, tails(shift, broad), tails(0))
    auc_truth = special.ndtr(shift / np.sqrt(2 + spread**2))
    member = np.arange(300) < 150
    covered = np.zeros(2)
    audits = 300
    for _ in range(audits):
        means = shift + spread * rng.normal(size=targets)
        scores = [np.concatenate([scores_of(mean, 150, rng), scores_of(0, 150, rng)]) for mean in means]
        singles = [measure_attack(one, member, rng, draws=2) for one in scores]
        pooled = pool_targets(singles, scores, [member] * targets, rng, draws=200)
        point = pooled.tpr[0]
        assert point.low is not None
        assert point.high is not None
        covered += (point.low <= tpr_truth <= point.high, pooled.auc_low <= auc_truth <= pooled.auc_high)
    print(targets, spread, covered / audits)
    assert (covered / audits >= 0.90).all()
