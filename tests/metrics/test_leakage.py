"""Leakage in one number besides the AUC."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymia.errors import InputError
from raymia.metrics.leakage import lowest_resolved_fpr, worst_tpr
from raymia.metrics.membership import TARGET_FPRS, AttackMetrics, TprAtFpr, measure_attack
from tests.metrics.made_results import attack_metrics


def attack(tpr: float | None, fpr: float = 0.01) -> AttackMetrics:
    """An attack that resolves 10%, and this FPR if a TPR is given."""
    return replace(attack_metrics(0.6), tpr=(TprAtFpr(0.1, 0.09, 0.3, 0.2, 0.4), TprAtFpr(fpr, 0.009, tpr)))


@pytest.mark.parametrize(
    ("nonmembers", "fpr"),
    [(0, None), (99, None), (100, 0.1), (999, 0.1), (1000, 0.01), (9999, 0.01), (10_000, 0.001), (10**6, 0.001)],
)
def test_ten_false_positives_are_asked_for(nonmembers: int, fpr: float | None) -> None:
    assert lowest_resolved_fpr(nonmembers) == fpr


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 1200))
def test_the_lowest_is_that_of_the_attacks_own_numbers(nonmembers: int) -> None:
    rng = np.random.default_rng(nonmembers)
    found = measure_attack(rng.random(nonmembers + 5), np.arange(nonmembers + 5) < 5, rng, draws=2)
    resolved = [point.target_fpr for point in found.tpr if point.tpr is not None]
    assert lowest_resolved_fpr(found.nonmembers) == min(resolved, default=None)


def test_the_worst_is_the_largest_over_attacks_and_populations_of_members() -> None:
    pooled = {"loss": attack(0.05), "rmia": attack(0.02), "rmia/direct": attack(0.07), "rmia/indirect": attack(0.01)}
    assert worst_tpr(pooled, 0.01) == 0.07
    assert worst_tpr(pooled, 0.1) == 0.3
    others = {"rmia/canary": attack(0.9), "denoising_loss/generator": attack(0.8)}
    assert worst_tpr(pooled | others, 0.01) == 0.07


def test_what_an_attack_does_not_resolve_is_not_passed_over() -> None:
    assert worst_tpr({"loss": attack(0.05), "rmia": attack(None)}, 0.01) is None
    assert worst_tpr({"loss": attack(0.05), "rmia": attack(None)}, 0.1) == 0.3


def test_bad_questions_are_refused() -> None:
    with pytest.raises(InputError, match=r"0\.05: it is not measured; give one of 0\.1, 0\.01, 0\.001"):
        worst_tpr({"loss": attack(0.05)}, 0.05)
    with pytest.raises(InputError, match="none on the members"):
        worst_tpr({"denoising_loss/generator": attack(0.5)}, TARGET_FPRS[0])
