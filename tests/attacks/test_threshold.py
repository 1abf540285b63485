from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.attacks import (
    ATTACKS,
    NN_SORTED_LOGITS,
    AttackerView,
    GradientNorm,
    LabelOnlyAugmentation,
    Loss,
    Needs,
    PerClass,
    Scores,
    ShadowSignals,
    Signals,
    best_threshold,
    guess_members,
    run_attack,
    shadow_threshold,
)
from raymia.errors import InputError
from tests.attacks.worlds import make_world

World = Callable[..., ShadowSignals]


def balanced_accuracy(scores_N: Any, member_N: Any, threshold: float) -> float:
    guess_N = guess_members(scores_N, threshold)
    return float((guess_N[member_N].mean() + (~guess_N)[~member_N].mean()) / 2)


def test_known_thresholds() -> None:
    member = np.array([True, True, False, False])
    assert best_threshold(np.array([3.0, 2.0, 1.0, 0.0]), member) == 1.5
    assert best_threshold(np.array([3.0, 0.0, 1.0, 2.0]), member) == 2.5
    # All or none guessed is as good as anything here: of all scores equal, that score.
    assert best_threshold(np.array([7.0, 7.0, 7.0, 7.0]), member) == 7.0
    # Cutting off the highest member or all but the lowest non-member: equally good, the higher is taken.
    assert best_threshold(np.array([4.0, 2.0, 3.0, 1.0]), member) == 3.5


def test_unequal_numbers_of_members_weigh_the_same() -> None:
    scores = np.array([2.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    member = np.arange(12) < 4
    assert best_threshold(scores, member) == 0.5


@given(st.lists(st.tuples(st.floats(-9, 9, width=16), st.booleans()), min_size=2, max_size=30))
def test_no_threshold_is_better(pairs: list[tuple[float, bool]]) -> None:
    scores_N = np.array([pair[0] for pair in pairs])
    member_N = np.array([pair[1] for pair in pairs])
    if member_N.all() or not member_N.any():
        with pytest.raises(InputError, match="needs members and non-members"):
            best_threshold(scores_N, member_N)
        return
    chosen = balanced_accuracy(scores_N, member_N, best_threshold(scores_N, member_N))
    every = [balanced_accuracy(scores_N, member_N, value) for value in (*scores_N, np.inf)]
    assert chosen == pytest.approx(max(every))


@pytest.mark.parametrize(
    "scores", [[np.inf, np.inf, -np.inf, -np.inf], [np.inf, 0, -np.inf, -1], [1, 1, -np.inf, 1], [-np.inf] * 4]
)
def test_infinite_scores_give_a_finite_threshold(scores: list[float]) -> None:
    assert np.isfinite(best_threshold(np.array(scores), np.array([True, True, False, False])))


def test_neighbouring_floats_are_told_apart() -> None:
    low = 1.0
    high = float(np.nextafter(low, 2))
    scores, member = np.array([high, low]), np.array([True, False])
    assert list(guess_members(scores, best_threshold(scores, member))) == [True, False]


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        best_threshold(np.array([np.nan, 1.0]), np.array([True, False]))


def test_shadow_threshold_pools_the_shadows_of_an_attack_that_fits_nothing(answers: World) -> None:
    shadows = [answers(seed, edge=2.0) for seed in (1, 2, 3)]
    pooled_scores = np.concatenate([Loss().score(None, shadow.signals) for shadow in shadows])
    pooled_members = np.concatenate([shadow.member_N for shadow in shadows])
    threshold = shadow_threshold(Loss(), AttackerView(5, shadows), np.random.default_rng(0))
    assert threshold == best_threshold(pooled_scores, pooled_members)


@dataclass(frozen=True)
class _RemembersRecords:
    """An attack that knows its shadows' members by heart and nothing else."""

    name: ClassVar[str] = "remembers"
    knowledge: ClassVar[str] = "everything about the shadows"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.SHADOW})

    def fit(self, view: AttackerView, rng: np.random.Generator) -> dict[bytes, bool]:
        return {
            answer.tobytes(): bool(member)
            for shadow in view.shadows
            for answer, member in zip(shadow.signals.logits_NQC, shadow.member_N, strict=True)
        }

    def score(self, state: dict[bytes, bool], block: Signals) -> Scores:
        # A record seen in training scores ±9, another one by its loss.
        own = Loss().score(None, block)
        return np.array(
            [
                9.0 * (2 * state[answer.tobytes()] - 1) if answer.tobytes() in state else score
                for answer, score in zip(block.logits_NQC, own, strict=True)
            ]
        )


def test_the_threshold_is_chosen_on_records_the_attack_was_not_fitted_on(answers: World) -> None:
    view = AttackerView(5, [answers(1, edge=2.0), answers(2, edge=2.0)])
    rng = np.random.default_rng(0)
    assert shadow_threshold(_RemembersRecords(), view, rng) == shadow_threshold(Loss(), view, rng)


def test_the_shadow_threshold_of_a_fitted_net_serves_the_target(answers: World) -> None:
    attack = replace(NN_SORTED_LOGITS, schedule=replace(NN_SORTED_LOGITS.schedule, epochs=60))
    view = AttackerView(5, [answers(1, edge=3.0, records=400)])
    target = answers(2, edge=3.0, records=400)
    scores = attack.score(attack.fit(view, np.random.default_rng(0)), target.signals)
    threshold = shadow_threshold(attack, view, np.random.default_rng(1))
    assert threshold is not None
    reached = balanced_accuracy(scores, target.member_N, threshold)
    best = balanced_accuracy(scores, target.member_N, best_threshold(scores, target.member_N))
    assert reached > 0.6
    assert best - 0.05 < reached <= best


def test_class_thresholds_are_already_in_the_scores(answers: World) -> None:
    view = AttackerView(5, [answers(1, edge=2.0)])
    assert shadow_threshold(PerClass(Loss()), view, np.random.default_rng(0)) == 0.0


def test_without_shadows_there_is_no_threshold() -> None:
    assert shadow_threshold(Loss(), AttackerView(5), np.random.default_rng(0)) is None


def test_shadows_without_what_the_attack_needs_give_no_threshold(answers: World) -> None:
    view = AttackerView(5, [answers(1, edge=2.0)])
    for attack in (GradientNorm(), LabelOnlyAugmentation()):
        assert shadow_threshold(attack, view, np.random.default_rng(0)) is None


def test_a_rehearsed_threshold_serves_the_target() -> None:
    world = make_world(1, edge=3.0, records=600)
    for name in ("lira_online", "lira_offline", "rmia", "rmia_offline", "attack_p", "calibrated_loss"):
        scores = run_attack(ATTACKS[name], world.view, world.target, np.random.default_rng(0))
        threshold = shadow_threshold(ATTACKS[name], world.view, np.random.default_rng(1))
        assert threshold is not None
        best = balanced_accuracy(scores, world.member_N, best_threshold(scores, world.member_N))
        assert best > 0.7
        assert balanced_accuracy(scores, world.member_N, threshold) > best - 0.05


def test_the_rehearsed_threshold_does_not_depend_on_the_target() -> None:
    world, other = make_world(1, edge=3.0, records=100), make_world(2, edge=0.0, records=100)
    assert world.view.population is not None
    population = replace(world.view.population, logits_NQC=other.target.logits_NQC)
    for name in ("lira_online", "rmia", "rmia_offline"):
        thresholds = [
            shadow_threshold(ATTACKS[name], view, np.random.default_rng(1))
            for view in (world.view, replace(world.view, population=population))
        ]
        assert thresholds[0] == thresholds[1]
