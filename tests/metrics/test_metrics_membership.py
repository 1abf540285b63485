import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.errors import InputError
from raymia.metrics.intervals import fixed_balanced_accuracy, t_interval
from raymia.metrics.membership import AttackMetrics, Ppv, TprAtFpr, measure_attack, pool_targets
from raymia.metrics.roc import auc, balanced_accuracy, ppv, tpr_at_fpr

Audit = tuple[NDArray[np.float64], NDArray[np.bool_]]


def audit(records: int, shift: float, seed: int) -> Audit:
    rng = np.random.default_rng(seed)
    member = rng.permutation(np.arange(2 * records) < records)
    return np.round(rng.normal(size=2 * records) + shift * member, 2), member


def measured(one: Audit, draws: int = 50) -> AttackMetrics:
    return measure_attack(*one, np.random.default_rng(0), shadow_predictions_N=one[0] > 0.3, draws=draws)


def test_metrics_of_one_target() -> None:
    scores, member = one = audit(1000, 0.8, seed=1)
    metrics = measured(one)
    assert metrics.auc == auc(scores, member)
    assert metrics.auc_low < metrics.auc < metrics.auc_high
    assert metrics.balanced_accuracy.value == balanced_accuracy(scores, member)
    assert [point.target_fpr for point in metrics.tpr] == [0.1, 0.01, 0.001]
    for point in metrics.tpr[:2]:
        expected = tpr_at_fpr(scores, member, point.target_fpr)
        assert (point.tpr, point.realised_fpr) == (expected.tpr, expected.fpr)
        assert point.low is not None
        assert point.high is not None
        assert point.low <= expected.tpr <= point.high
    assert (metrics.members, metrics.nonmembers, metrics.interval_kind) == (1000, 1000, "records")


def test_ppv_is_taken_at_the_lowest_resolvable_point() -> None:
    large, small = audit(1000, 0.8, seed=1), audit(150, 0.8, seed=1)
    point = tpr_at_fpr(*large, 0.01)
    assert measured(large).ppv_fpr == 0.01
    assert measured(large).ppv == tuple(Ppv(prior, ppv(point.tpr, point.fpr, prior)) for prior in (0.01, 0.1))
    assert measured(small).ppv_fpr == 0.1
    assert measured(audit(99, 0.8, seed=1)).ppv_fpr is None


def test_what_the_records_cannot_resolve_is_not_a_number() -> None:
    assert measured(audit(999, 0.8, seed=2)).tpr[1:] == (TprAtFpr(0.01), TprAtFpr(0.001))
    assert measured(audit(99, 0.8, seed=2)).tpr[0] == TprAtFpr(0.1, None, None, None, None)
    assert measured(audit(1000, 0.8, seed=2)).tpr[1].tpr is not None


def test_no_false_positive_gives_no_ppv() -> None:
    scores = np.arange(400.0)
    metrics = measure_attack(scores, scores >= 200, np.random.default_rng(0), draws=10)
    assert (metrics.tpr[0].tpr, metrics.tpr[0].realised_fpr) == (1, 0)
    assert metrics.ppv == (Ppv(0.01, None), Ppv(0.1, None))


def test_shadow_threshold_is_judged_by_its_guesses() -> None:
    scores, member = one = audit(150, 0.8, seed=3)
    guesses = scores > 0.3
    tpr, fpr = guesses[member].mean(), guesses[~member].mean()
    shadow = measured(one).balanced_accuracy_shadow
    assert shadow is not None
    assert shadow.value == pytest.approx((tpr + 1 - fpr) / 2)
    expected = fixed_balanced_accuracy(tpr, 150, fpr, 150)
    assert (shadow.low, shadow.high) == (expected.low, expected.high)
    assert shadow.value <= measured(one).balanced_accuracy.value
    assert measure_attack(*one, np.random.default_rng(0), draws=10).balanced_accuracy_shadow is None


def test_the_same_generator_gives_the_same_metrics() -> None:
    one = audit(150, 0.8, seed=4)
    assert measured(one) == measured(one)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 30.0]), st.integers(2, 120))
def test_every_value_lies_in_its_interval(seed: int, shift: float, records: int) -> None:
    metrics = measured(audit(records, shift, seed), draws=20)
    assert 0 <= metrics.auc_low <= metrics.auc <= metrics.auc_high <= 1
    for estimate in (metrics.balanced_accuracy, metrics.balanced_accuracy_shadow):
        assert estimate is not None
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.low < estimate.high


def test_json_round_trip() -> None:
    for metrics in (measured(audit(150, 0.8, seed=5)), measured(audit(1000, 0.8, seed=5))):
        assert AttackMetrics.from_dict(json.loads(json.dumps(metrics.to_dict()))) == metrics
    bare = replace(metrics, balanced_accuracy_shadow=None)
    assert AttackMetrics.from_dict(json.loads(json.dumps(bare.to_dict()))) == bare


def pooled_of(audits: list[Audit], seed: int = 0) -> AttackMetrics:
    return pool_targets(
        [measured(one) for one in audits],
        [one[0] for one in audits],
        [one[1] for one in audits],
        np.random.default_rng(seed),
        draws=200,
    )


def test_pooling_targets() -> None:
    audits = [audit(250, shift, seed) for seed, shift in enumerate((0.7, 0.8, 0.9, 1.0))]
    pooled = pooled_of(audits)
    aucs = [auc(*one) for one in audits]
    expected = t_interval(aucs)
    assert expected is not None
    assert pooled.auc == pytest.approx(np.mean(aucs))
    assert (pooled.auc_low, pooled.auc_high) == pytest.approx((expected.low, expected.high))
    assert pooled.interval_kind == "seeds"
    assert (pooled.members, pooled.nonmembers) == (1000, 1000)
    # 250 non-members resolve 0.1 alone; pairs over four targets resolve 0.01.
    assert measured(audits[0]).tpr[1].tpr is None
    point = tpr_at_fpr(np.concatenate([a[0] for a in audits]), np.concatenate([a[1] for a in audits]), 0.01)
    assert (pooled.tpr[1].tpr, pooled.tpr[1].realised_fpr) == (point.tpr, point.fpr)
    assert pooled.tpr[2] == TprAtFpr(0.001)
    assert pooled.ppv_fpr == 0.01
    shadow = [measured(one).balanced_accuracy_shadow for one in audits]
    values = [one.value for one in shadow if one is not None]
    assert pooled.balanced_accuracy_shadow is not None
    assert pooled.balanced_accuracy_shadow.value == pytest.approx(np.mean(values))
    assert pooled_of(audits) == pooled


def test_one_target_keeps_its_own_metrics() -> None:
    one = audit(150, 0.8, seed=6)
    assert pooled_of([one]) == measured(one)
    assert pooled_of([one]).interval_kind == "records"


def test_targets_that_agree_exactly_are_not_certainty() -> None:
    perfect = (np.arange(300.0), np.arange(300) >= 150)
    pooled = pooled_of([perfect, perfect])
    assert pooled.auc == 1 == pooled.auc_high
    assert pooled.auc_low < 0.99
    assert pooled.tpr[0].low is not None
    assert pooled.tpr[0].low < 1
    assert pooled.balanced_accuracy.low < 1


def test_bad_targets_are_refused() -> None:
    one = audit(20, 0.8, seed=7)
    with pytest.raises(InputError, match="differ"):
        pool_targets([measured(one)], [one[0], one[0]], [one[1]], np.random.default_rng(0))
    with pytest.raises(InputError, match="differ"):
        pool_targets([], [], [], np.random.default_rng(0))
    with pytest.raises(InputError, match="booleans"):
        measure_attack(*one, np.random.default_rng(0), shadow_predictions_N=one[0])
    with pytest.raises(InputError, match="equal length"):
        measure_attack(*one, np.random.default_rng(0), shadow_predictions_N=np.array([True]))
