from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from raymia.attacks import (
    NN_SORTED_LOGITS,
    AttackerView,
    Loss,
    ModifiedEntropy,
    PerClass,
    ShadowSignals,
    Signals,
    best_threshold,
    run_attack,
)
from raymia.errors import InputError

RNG = np.random.default_rng(0)
DIFFICULTY_C = np.array([-4.0, -2.0, 0.0, 2.0, 4.0])


def world(seed: int, records: int = 1000) -> ShadowSignals:
    """Members gain one logit in the true class; how sure the model is differs far more between the classes."""
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(0, 5, records)
    member_N = rng.random(records) < 0.5
    logits_NQC = np.zeros((records, 1, 5))
    logits_NQC[np.arange(records), 0, labels_N] = DIFFICULTY_C[labels_N] + member_N + 0.4 * rng.normal(size=records)
    return ShadowSignals(Signals(logits_NQC.astype(np.float32), labels_N), member_N)


def of_classes(shadow: ShadowSignals, keep_N: NDArray[np.bool_]) -> ShadowSignals:
    return ShadowSignals(shadow.signals.take(keep_N), shadow.member_N[keep_N])


def test_a_planted_class_offset_is_found() -> None:
    state = PerClass(Loss(), prior_records=0).fit(AttackerView(5, [world(1, 4000)]), RNG)
    # Halfway between members and non-members of class c the true class's logit is DIFFICULTY_C + 1/2.
    expected_C = -np.log1p(4 * np.exp(-(DIFFICULTY_C + 0.5)))
    spread_C = 1 - np.exp(expected_C)  # the loss's slope: a fourth of a logit is the tolerance
    assert (np.abs(state.thresholds_C - expected_C) < 0.25 * spread_C).all()


@pytest.mark.parametrize("base", [Loss(), ModifiedEntropy()], ids=lambda base: base.name)
def test_class_thresholds_attack_better_where_classes_differ(
    base: Loss | ModifiedEntropy, auc: Callable[..., float]
) -> None:
    view, target = AttackerView(5, [world(1)]), world(2)
    overall = run_attack(base, view, target.signals, RNG)
    class_wise = run_attack(PerClass(base), view, target.signals, RNG)
    assert auc(class_wise, target.member_N) > auc(overall, target.member_N) + 0.1
    assert ((class_wise >= 0) == target.member_N).mean() > 0.75


def test_shrinkage_is_the_documented_formula() -> None:
    shadow = world(1, 300)
    state = PerClass(Loss(), prior_records=40).fit(AttackerView(5, [shadow]), RNG)
    scores_N, labels_N = Loss().score(None, shadow.signals), shadow.signals.labels_N
    overall = best_threshold(scores_N, shadow.member_N)
    for label in range(5):
        rows = labels_N == label
        member = shadow.member_N[rows]
        scarcer = min(member.sum(), (~member).sum())
        own = best_threshold(scores_N[rows], member)
        expected = (scarcer * own + 40 * overall) / (scarcer + 40)
        assert state.thresholds_C[label] == pytest.approx(expected)
    # One class's own threshold may be the one that serves all; the others must have moved.
    assert (np.abs(state.thresholds_C - overall) > 0.01).sum() >= 4


def test_several_shadows_are_pooled() -> None:
    first, second = world(1, 200), world(2, 150)
    twice_asked = Signals(np.repeat(second.signals.logits_NQC, 2, axis=1), second.signals.labels_N)
    both = ShadowSignals(
        Signals(
            np.concatenate([first.signals.logits_NQC, second.signals.logits_NQC]),
            np.concatenate([first.signals.labels_N, second.signals.labels_N]),
        ),
        np.concatenate([first.member_N, second.member_N]),
    )
    attack = PerClass(Loss())
    separate = attack.fit(AttackerView(5, [first, ShadowSignals(twice_asked, second.member_N)]), RNG).thresholds_C
    assert np.array_equal(separate, attack.fit(AttackerView(5, [both]), RNG).thresholds_C)


@pytest.mark.parametrize("lacking", ["all", "members", "non-members"])
def test_a_class_the_shadow_cannot_tell_gets_the_threshold_of_all_classes(lacking: str) -> None:
    shadow = world(1)
    of_class = shadow.signals.labels_N == 3
    gone = {
        "all": of_class,
        "members": of_class & shadow.member_N,
        "non-members": of_class & ~shadow.member_N,
    }[lacking]
    shadow = of_classes(shadow, ~gone)
    state = PerClass(Loss()).fit(AttackerView(5, [shadow]), RNG)
    overall = best_threshold(Loss().score(None, shadow.signals), shadow.member_N)
    assert state.thresholds_C[3] == overall
    # One class's own threshold may be the one that serves all; the others must have moved.
    assert (np.abs(state.thresholds_C[[0, 1, 2, 4]] - overall) > 0.01).sum() >= 3


def test_a_shadow_without_members_is_refused() -> None:
    shadow = world(1, 50)
    with pytest.raises(InputError, match="needs members and non-members, got 0"):
        PerClass(Loss()).fit(AttackerView(5, [of_classes(shadow, ~shadow.member_N)]), RNG)


def test_a_base_that_learned_from_the_shadows_is_refused() -> None:
    with pytest.raises(ValueError, match="records it learned from"):
        PerClass(NN_SORTED_LOGITS)


@pytest.mark.parametrize("prior", [-1.0, float("nan")])
def test_a_senseless_prior_is_refused(prior: float) -> None:
    with pytest.raises(ValueError, match="prior_records"):
        PerClass(Loss(), prior_records=prior)


def test_infinite_scores_stay_numbers() -> None:
    logits_NQC = np.zeros((6, 1, 3), np.float32)
    logits_NQC[:3, 0, 1:] = -np.inf
    shadow = ShadowSignals(Signals(logits_NQC, np.array([0, 1, 2, 0, 1, 2])), np.arange(6) % 2 == 0)
    scores = run_attack(PerClass(ModifiedEntropy()), AttackerView(3, [shadow]), shadow.signals, RNG)
    assert not np.isnan(scores).any()
