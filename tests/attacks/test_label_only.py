from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from raymia.attacks import AttackerView, LabelOnlyAugmentation, LabelOnlyGap, ShadowSignals, Signals, run_attack
from raymia.errors import InputError

ATTACK = LabelOnlyAugmentation()


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def answers_of(right_NQ: NDArray[np.bool_]) -> Signals:
    """Three classes; sure or unsure at random, right where it says so."""
    logits_NQC = np.zeros((*right_NQ.shape, 3))
    logits_NQC[:, :, 1] = np.where(right_NQ, 1, -1) * rng().uniform(0.1, 9, right_NQ.shape)
    return Signals(logits_NQC.astype(np.float32), np.ones(len(right_NQ), np.int64))


def shifted_world(seed: int, records: int = 2000) -> ShadowSignals:
    """All are classified right as they are; of the first shift members are right more often, of the second less."""
    draw = np.random.default_rng(seed)
    member_N = draw.random(records) < 0.5
    chances = np.where(member_N[:, None], [1, 0.9, 0.3, 0.5], [1, 0.6, 0.6, 0.5])
    return ShadowSignals(answers_of(draw.random((records, 4)) < chances), member_N)


def test_gap_is_whether_the_prediction_is_right() -> None:
    signals = answers_of(np.array([[True, False], [False, True]]))
    assert list(run_attack(LabelOnlyGap(), AttackerView(3), signals, rng())) == [1, 0]


def test_only_whether_each_answer_is_right_is_seen() -> None:
    target = shifted_world(2, 100).signals
    view = AttackerView(3, [shifted_world(1, 200)])
    for attack in (ATTACK, LabelOnlyGap()):
        scores = run_attack(attack, view, target, rng())
        surer = replace(target, logits_NQC=target.logits_NQC * 50)
        assert np.array_equal(scores, run_attack(attack, view, surer, rng()))
    assert len(np.unique(run_attack(ATTACK, view, target, rng()))) <= 2**4


def test_the_net_learns_which_queries_tell(auc: Callable[..., float]) -> None:
    target = shifted_world(2)
    scores = run_attack(ATTACK, AttackerView(3, [shifted_world(1)]), target.signals, rng())
    right_NQ = target.signals.logits_NQC.argmax(axis=2) == 1
    by_count = auc(right_NQ.sum(axis=1).astype(np.float64), target.member_N)
    by_best = auc(right_NQ[:, 1].astype(np.float64) - right_NQ[:, 2], target.member_N)
    by_gap = auc(run_attack(LabelOnlyGap(), AttackerView(3), target.signals, rng()), target.member_N)
    assert by_gap == 0.5
    assert by_best > by_count + 0.1
    assert auc(scores, target.member_N) > by_best - 0.01


def test_models_that_were_asked_other_queries_are_refused() -> None:
    shadow, target = shifted_world(1), shifted_world(2).signals
    fewer = replace(target, logits_NQC=target.logits_NQC[:, :3])
    with pytest.raises(InputError, match="shadow models answer 4 queries a record, the target 3"):
        run_attack(ATTACK, AttackerView(3, [shadow]), fewer, rng())
    with pytest.raises(InputError, match="shadow models answer different numbers of queries"):
        run_attack(ATTACK, AttackerView(3, [shadow, ShadowSignals(fewer, shadow.member_N)]), target, rng())


def test_shadows_of_members_only_are_refused() -> None:
    shadow = shifted_world(1)
    members = ShadowSignals(shadow.signals, np.ones(len(shadow.member_N), bool))
    with pytest.raises(InputError, match="label_only_augmentation needs members and non-members"):
        run_attack(ATTACK, AttackerView(3, [members]), shadow.signals, rng())
