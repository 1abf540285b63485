"""What every registered attack must hold."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest

from raymia.attacks import (
    ATTACKS,
    Attack,
    AttackerView,
    Needs,
    SalemNN,
    Scores,
    ShadowSignals,
    Signals,
    run_attack,
    shadow_threshold,
)

World = Callable[..., ShadowSignals]
EVERY = pytest.mark.parametrize("attack", ATTACKS.values(), ids=lambda attack: attack.name)


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def quick(attack: Attack) -> Attack:
    """The same attack with a short training, where the net's quality is not what is tested."""
    if isinstance(attack, SalemNN):
        return replace(attack, schedule=replace(attack.schedule, epochs=5))
    return attack


@EVERY
def test_over_fitted_members_score_higher(attack: Attack, answers: World, auc: Callable[..., float]) -> None:
    view = AttackerView(5, [answers(1, edge=3.0, records=300)])
    target = answers(2, edge=3.0, records=600)
    assert auc(run_attack(attack, view, target.signals, rng()), target.member_N) > 0.6


@EVERY
def test_noise_gives_chance(attack: Attack, answers: World, auc: Callable[..., float]) -> None:
    values = []
    for repeat in range(16):
        view = AttackerView(5, [answers(100 + repeat, edge=0.0, records=80)])
        target = answers(200 + repeat, edge=0.0, records=400)
        values.append(auc(run_attack(quick(attack), view, target.signals, rng()), target.member_N))
    assert abs(np.mean(values) - 0.5) < 0.03  # 4 standard errors: .029 a repeat, 16 repeats


def test_the_view_and_the_signals_have_no_place_for_the_targets_membership() -> None:
    assert {field.name for field in fields(AttackerView)} == {"classes", "shadows"}
    assert {field.name for field in fields(Signals)} == {"logits_NQC", "labels_N"}


@dataclass(frozen=True)
class _Leaky(Signals):
    """Signals that carry what an attack must not see."""

    member_N: Any = None


class _Watched:
    """Passes calls on to an attack and keeps all that it was shown."""

    def __init__(self, attack: Attack) -> None:
        self.attack = attack
        self.name, self.knowledge, self.needs = attack.name, attack.knowledge, attack.needs
        self.shown: list[Any] = []

    def fit(self, view: AttackerView, rng: np.random.Generator) -> Any:
        self.shown.append(view)
        return self.attack.fit(view, rng)

    def score(self, state: Any, block: Signals) -> Scores:
        self.shown.append(block)
        return self.attack.score(state, block)


@EVERY
def test_flipping_the_targets_membership_changes_no_score(attack: Attack, answers: World) -> None:
    view = AttackerView(5, [answers(1, edge=2.0, records=60)])
    target = answers(2, edge=2.0, records=50)
    signals = target.signals
    scores = []
    for member_N in (target.member_N, ~target.member_N, rng().permutation(target.member_N)):
        watched = _Watched(quick(attack))
        leaky = _Leaky(signals.logits_NQC, signals.labels_N, member_N)
        scores.append(run_attack(watched, view, leaky, rng()))
        assert watched.shown[0] is view
        assert not any(hasattr(shown, "member_N") for shown in watched.shown)
    assert np.array_equal(scores[0], scores[1])
    assert np.array_equal(scores[0], scores[2])


@EVERY
@pytest.mark.parametrize("size", [1, 7, 64])
def test_scores_depend_on_each_record_alone(attack: Attack, size: int, answers: World) -> None:
    view = AttackerView(5, [answers(1, edge=2.0)])
    target = answers(2, edge=2.0, records=201, queries=2).signals
    attack = quick(attack)
    state = attack.fit(view, rng())
    blocks = [target.take(slice(start, start + size)) for start in range(0, len(target), size)]
    assert np.array_equal(attack.score(state, target), np.concatenate([attack.score(state, b) for b in blocks]))


@EVERY
def test_permuting_the_records_permutes_the_scores(attack: Attack, answers: World) -> None:
    view = AttackerView(5, [answers(1, edge=2.0)])
    target = answers(2, edge=2.0, records=201).signals
    order = rng().permutation(201)
    scores = run_attack(quick(attack), view, target, rng())
    assert np.array_equal(run_attack(quick(attack), view, target.take(order), rng()), scores[order])


@EVERY
def test_equal_answers_tie_wherever_they_lie(attack: Attack, answers: World) -> None:
    view = AttackerView(5, [answers(1, edge=2.0)])
    target = answers(2, edge=2.0, records=3).signals
    many = Signals(np.repeat(target.logits_NQC, 333, axis=0), np.repeat(target.labels_N, 333))
    assert len(np.unique(run_attack(quick(attack), view, many, rng()))) == 3


@EVERY
def test_the_same_seed_gives_the_same_scores(attack: Attack, answers: World) -> None:
    view = AttackerView(5, [answers(1, edge=2.0)])
    target = answers(2, edge=2.0).signals
    attack = quick(attack)
    assert np.array_equal(run_attack(attack, view, target, rng()), run_attack(attack, view, target, rng()))
    assert shadow_threshold(attack, view, rng()) == shadow_threshold(attack, view, rng())


@EVERY
def test_only_the_record_itself_is_asked(attack: Attack, answers: World) -> None:
    shadow, target = answers(1, edge=2.0, queries=3), answers(2, edge=2.0, queries=3)
    scores = run_attack(quick(attack), AttackerView(5, [shadow]), target.signals, rng())

    def alone(world: ShadowSignals) -> ShadowSignals:
        signals = Signals(world.signals.logits_NQC[:, :1], world.signals.labels_N)
        return ShadowSignals(signals, world.member_N)

    view = AttackerView(5, [alone(shadow)])
    assert np.array_equal(scores, run_attack(quick(attack), view, alone(target).signals, rng()))


@EVERY
@pytest.mark.parametrize("where", ["target", "shadow", "both"])
def test_extreme_answers_give_no_nan(attack: Attack, where: str, answers: World) -> None:
    rows = [[1e4, -1e4, 0, 0, 0], [-1e4] * 4 + [1e4], [0] * 5, [1e4] * 5, [-np.inf] * 4 + [0], [1, 2, 3, 4, -np.inf]]
    extreme = Signals(np.repeat(np.array(rows, np.float32), 5, axis=0)[:, None], np.tile(np.arange(5), 6))
    ordinary = answers(1, edge=2.0, records=40)
    shadow = ordinary if where == "target" else ShadowSignals(extreme, np.arange(30) % 2 == 0)
    target = ordinary.signals if where == "shadow" else extreme
    view = AttackerView(5, [shadow])
    assert not np.isnan(run_attack(quick(attack), view, target, rng())).any()  # run_attack raises for NaN, too
    assert np.isfinite(shadow_threshold(quick(attack), view, rng()))


@EVERY
def test_no_records_give_no_scores(attack: Attack, answers: World) -> None:
    view = AttackerView(5, [answers(1, edge=2.0, records=20)])
    nothing = answers(2, edge=2.0).signals.take(slice(0, 0))
    assert run_attack(quick(attack), view, nothing, rng()).shape == (0,)


@EVERY
def test_an_attack_that_needs_shadows_says_so(attack: Attack, answers: World) -> None:
    target = answers(2, edge=2.0, records=20).signals
    if Needs.SHADOW in attack.needs:
        with pytest.raises(ValueError, match=f"{attack.name} needs a shadow model"):
            run_attack(attack, AttackerView(5), target, rng())
    else:
        assert run_attack(attack, AttackerView(5), target, rng()).shape == (20,)


@EVERY
def test_attacks_are_frozen_and_say_what_they_know(attack: Attack) -> None:
    assert attack.knowledge
    assert "\n" not in attack.knowledge
    assert hash(attack) == hash(replace(attack))  # type: ignore[type-var]


def test_run_attack_refuses_scores_that_break_the_promise(answers: World) -> None:
    target = answers(2, edge=2.0, records=20).signals

    class Broken(_Watched):
        def __init__(self, broken: Any) -> None:
            super().__init__(ATTACKS["loss"])
            self.broken = broken

        def score(self, state: Any, block: Signals) -> Scores:
            return self.broken

    for broken in (np.zeros(20, np.float32), np.zeros(19), np.zeros((20, 1)), np.full(20, np.nan)):
        with pytest.raises(ValueError, match="one float64 a record"):
            run_attack(Broken(broken), AttackerView(5), target, rng())
