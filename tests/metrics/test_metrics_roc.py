import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.errors import InputError
from raymia.metrics.roc import (
    allowed_false_positives,
    auc,
    balanced_accuracy,
    balanced_accuracy_at,
    decision_point,
    ppv,
    resolvable,
    roc_curve,
    tpr_at_fpr,
)

Audit = tuple[NDArray[np.float64], NDArray[np.bool_]]

# Few distinct values, so that ties within and across members and non-members are the rule.
VALUES = st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 1.0, 3.0, np.inf])


@st.composite
def audits(draw: st.DrawFn) -> Audit:
    members = draw(st.lists(VALUES, min_size=1, max_size=12))
    nonmembers = draw(st.lists(VALUES, min_size=1, max_size=12))
    order = draw(st.permutations(range(len(members) + len(nonmembers))))
    scores = np.array(members + nonmembers)[order]
    return scores, (np.arange(len(scores)) < len(members))[order]


def all_points(scores: NDArray[np.float64], member: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """(FPR, TPR) of every rule `score >= t`, and of "nobody"."""
    rules = [scores >= t for t in np.unique(scores)] + [np.zeros(len(scores), dtype=bool)]
    return [(float(rule[~member].mean()), float(rule[member].mean())) for rule in rules]


def test_roc_groups_equal_scores() -> None:
    # Two members and one non-member tie at 2: one corner, not three.
    scores = [3.0, 2.0, 2.0, 2.0, 1.0, 0.0]
    member = [True, True, True, False, False, False]
    roc = roc_curve(scores, member)
    np.testing.assert_allclose(roc.fpr, [0, 0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(roc.tpr, [0, 1 / 3, 1, 1, 1])
    np.testing.assert_array_equal(roc.thresholds, [np.nan, 3, 2, 1, 0])
    # Pairs: 3 of member 3.0, and 2.5 for each of the two at 2.0, of 9.
    assert auc(scores, member) == pytest.approx(8 / 9)
    # The best threshold is 2: TPR 1, TNR 2/3.
    assert balanced_accuracy(scores, member) == pytest.approx(5 / 6)
    assert balanced_accuracy_at(scores, member, 3.0) == pytest.approx((1 / 3 + 1) / 2)
    assert balanced_accuracy_at(scores, member, 0.5) == pytest.approx((1 + 1 / 3) / 2)


def test_tpr_at_fpr_does_not_interpolate() -> None:
    scores = [3.0, 2.0, 2.0, 2.0, 1.0, 0.0]
    member = [True, True, True, False, False, False]
    below = tpr_at_fpr(scores, member, 0.3)
    assert (below.tpr, below.fpr, below.threshold) == (1 / 3, 0, 3)
    exact = tpr_at_fpr(scores, member, 1 / 3)
    assert (exact.tpr, exact.fpr, exact.threshold) == (1, 1 / 3, 2)
    # A wider budget buys nothing: the point with fewer false positives stays.
    assert tpr_at_fpr(scores, member, 0.9) == exact


def test_nobody_can_be_called_when_all_scores_are_infinite() -> None:
    point = tpr_at_fpr([np.inf, np.inf], [True, False], 0.1)
    assert (point.tpr, point.fpr) == (0, 0)
    assert not (np.array([np.inf]) >= point.threshold).any()


@given(audits())
def test_auc_counts_pairs(audit: Audit) -> None:
    scores, member = audit
    pairs = [1.0 if m > n else 0.5 if m == n else 0.0 for m in scores[member] for n in scores[~member]]
    assert auc(scores, member) == pytest.approx(np.mean(pairs), abs=1e-12)


@given(audits())
def test_auc_is_the_area_under_the_roc(audit: Audit) -> None:
    roc = roc_curve(*audit)
    assert np.trapezoid(roc.tpr, roc.fpr) == pytest.approx(auc(*audit), abs=1e-12)


@given(audits(), st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 2 / 3, 1.0]))
def test_tpr_at_fpr_is_the_largest_within_the_target(audit: Audit, target: float) -> None:
    scores, member = audit
    point = tpr_at_fpr(scores, member, target)
    within = [(tpr, fpr) for fpr, tpr in all_points(scores, member) if fpr <= target]
    best = max(tpr for tpr, _ in within)
    assert point.fpr <= target
    assert point.tpr == best
    assert point.fpr == min(fpr for tpr, fpr in within if tpr == best)
    called = scores >= point.threshold
    assert (called[member].mean(), called[~member].mean()) == (point.tpr, point.fpr)


@given(audits())
def test_balanced_accuracy_is_the_best_of_all_rules(audit: Audit) -> None:
    best = max((tpr + 1 - fpr) / 2 for fpr, tpr in all_points(*audit))
    assert balanced_accuracy(*audit) == pytest.approx(best, abs=1e-12)


@given(audits(), st.randoms(use_true_random=False))
def test_metrics_ignore_order_and_monotone_transforms(audit: Audit, random: object) -> None:
    scores, member = audit
    order = np.random.default_rng(random.getrandbits(32)).permutation(len(scores))  # type: ignore[attr-defined]
    changed = np.arctan(scores)[order] * 7 - 3
    for metric in (auc, balanced_accuracy, lambda s, m: tpr_at_fpr(s, m, 0.25).tpr):
        assert metric(changed, member[order]) == metric(scores, member)


@given(audits())
def test_flipping_the_sign_flips_the_auc(audit: Audit) -> None:
    scores, member = audit
    assert auc(-scores, member) == pytest.approx(1 - auc(scores, member), abs=1e-12)
    assert auc(scores, ~member) == pytest.approx(1 - auc(scores, member), abs=1e-12)


@settings(max_examples=300)
@given(st.integers(1, 20_000), st.sampled_from([0.001, 0.01, 0.07, 0.1, 0.29, 0.3, 0.7, 1.0]))
def test_allowed_false_positives_is_exact(nonmembers: int, target: float) -> None:
    allowed = int(allowed_false_positives(np.array([nonmembers]), target)[0])
    assert allowed / nonmembers <= target < (allowed + 1) / nonmembers


def test_resolvable_needs_ten_false_positives() -> None:
    assert resolvable(100, 0.1)
    assert not resolvable(99, 0.1)
    assert resolvable(10_000, 0.001)
    assert not resolvable(9_999, 0.001)


def test_ppv_by_bayes() -> None:
    # Of 10,000 people 100 are members: 50 of them and 99 of the 9,900 others are called.
    assert ppv(0.5, 0.01, 0.01) == pytest.approx(50 / 149)
    assert ppv(0.0, 0.0, 0.1) is None


def test_decision_point_counts_guesses() -> None:
    point = decision_point([True, False, True, False], [True, True, False, False])
    assert (point.tpr, point.fpr, point.balanced_accuracy) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("scores", "member", "message"),
    [
        ([0.0, np.nan], [True, False], "NaN"),
        ([0.0, 1.0], [True, True], "both kinds"),
        ([0.0, 1.0], [False, False], "both kinds"),
        ([0.0, 1.0, 2.0], [True, False], "equal length"),
        ([[0.0, 1.0]], [[True, False]], "one-dimensional"),
        ([0.0, 1.0], [1, 0], "booleans"),
    ],
)
def test_bad_audits_are_refused(scores: list[float], member: list[bool], message: str) -> None:
    with pytest.raises(InputError, match=message):
        auc(scores, member)


def test_bad_rates_are_refused() -> None:
    with pytest.raises(InputError, match="target FPR"):
        tpr_at_fpr([0.0, 1.0], [True, False], 10)
    with pytest.raises(InputError, match="prior"):
        ppv(0.5, 0.1, 1.0)
