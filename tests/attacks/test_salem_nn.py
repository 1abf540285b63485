from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from raymia.attacks import (
    NN_SORTED_LOGITS,
    NN_TOP3_POSTERIORS,
    AttackerView,
    Loss,
    SalemNN,
    ShadowSignals,
    Signals,
    run_attack,
)
from raymia.attacks.perceptron import Schedule, train_perceptron
from raymia.errors import InputError

World = Callable[..., ShadowSignals]
BOTH = pytest.mark.parametrize("attack", [NN_TOP3_POSTERIORS, NN_SORTED_LOGITS], ids=lambda attack: attack.name)


def second_posterior_world(seed: int, records: int = 400) -> ShadowSignals:
    """The true class has the same posteriors for all; of members the rest goes to one class, of others to several."""
    rng = np.random.default_rng(seed)
    member_N = rng.permutation(np.arange(records) % 2 == 0)
    labels_N = rng.integers(0, 4, records)
    true_N = rng.uniform(0.5, 0.8, records)
    second_N = (1 - true_N) * np.where(member_N, 0.8, 0.5)
    third_N = (1 - true_N - second_N) * 0.7
    posteriors_NC = np.stack([true_N, second_N, third_N, 1 - true_N - second_N - third_N], axis=1)
    column_NC = (labels_N[:, None] - np.arange(4)) % 4  # class c stands (y - c) places behind the true one
    logits_NC = np.log(np.take_along_axis(posteriors_NC, column_NC, axis=1))
    return ShadowSignals(Signals(logits_NC[:, None].astype(np.float32), labels_N), member_N)


@BOTH
def test_the_net_finds_what_the_loss_does_not_show(attack: SalemNN, auc: Callable[..., float]) -> None:
    shadow, target = second_posterior_world(1), second_posterior_world(2)
    view = AttackerView(4, [shadow])
    by_loss = auc(run_attack(Loss(), view, target.signals, np.random.default_rng(0)), target.member_N)
    by_net = auc(run_attack(attack, view, target.signals, np.random.default_rng(0)), target.member_N)
    assert abs(by_loss - 0.5) < 0.08
    assert by_net > 0.95


@BOTH
def test_training_moves_the_hidden_layer(attack: SalemNN, answers: World) -> None:
    view = AttackerView(5, [answers(1, edge=3.0)])
    untrained = replace(attack, schedule=replace(attack.schedule, epochs=0))
    start = untrained.fit(view, np.random.default_rng(7))
    end = attack.fit(view, np.random.default_rng(7))
    assert start.hidden_FH.shape == end.hidden_FH.shape == (3 if attack is NN_TOP3_POSTERIORS else 5, attack.hidden)
    moved = np.abs(end.hidden_FH - start.hidden_FH)
    assert (moved > 0).mean() > 0.9
    assert moved.max() > 0.02
    assert (end.hidden_bias_H != start.hidden_bias_H).mean() > 0.9


def test_training_lowers_the_loss_a_random_hidden_layer_cannot() -> None:
    """Two inner bands of one feature: no single unit of the ReLU layer separates them, the trained layer does."""
    rng = np.random.default_rng(0)
    feature_N1 = rng.uniform(-1, 1, (600, 1))
    member_N = np.abs(feature_N1[:, 0]) < 0.5
    net = train_perceptron(feature_N1, member_N, 16, Schedule(epochs=150, batch=32, learning_rate=0.01), rng)
    assert ((net.logits(feature_N1) > 0) == member_N).mean() > 0.97


def test_scarce_members_weigh_as_much_as_the_many_others() -> None:
    rng = np.random.default_rng(0)
    features_N1 = rng.normal(size=(1000, 1))
    member_N = np.arange(1000) < 50
    net = train_perceptron(features_N1, member_N, 8, Schedule(epochs=20, batch=100, learning_rate=0.01), rng)
    # Nothing to learn: even classes give a logit near 0, the records' share would give log(.05/.95) = -2.9.
    assert abs(net.logits(features_N1).mean()) < 0.5


def test_l2_shrinks_the_weights(answers: World) -> None:
    view = AttackerView(5, [answers(1, edge=3.0)])

    def norm(l2: float) -> float:
        attack = replace(NN_SORTED_LOGITS, schedule=replace(NN_SORTED_LOGITS.schedule, epochs=100, l2=l2))
        return float(np.square(attack.fit(view, np.random.default_rng(0)).hidden_FH).sum())

    assert norm(0.1) < 0.5 * norm(0.0)


def test_with_two_classes_there_are_two_posteriors(answers: World, auc: Callable[..., float]) -> None:
    shadow, target = answers(1, edge=4.0, classes=2), answers(2, edge=4.0, classes=2)
    view = AttackerView(2, [shadow])
    assert NN_TOP3_POSTERIORS.fit(view, np.random.default_rng(0)).hidden_FH.shape == (2, 64)
    scores = run_attack(NN_TOP3_POSTERIORS, view, target.signals, np.random.default_rng(0))
    assert auc(scores, target.member_N) > 0.6


@BOTH
def test_which_class_a_logit_belongs_to_does_not_matter(attack: SalemNN, answers: World) -> None:
    shadow = answers(1, edge=3.0)
    state = replace(attack, schedule=replace(attack.schedule, epochs=3)).fit(
        AttackerView(5, [shadow]), np.random.default_rng(0)
    )
    rolled = Signals(np.roll(shadow.signals.logits_NQC, 2, axis=2), shadow.signals.labels_N)
    assert np.allclose(attack.score(state, shadow.signals), attack.score(state, rolled), rtol=1e-5)


@BOTH
def test_the_global_generators_are_neither_read_nor_moved(attack: SalemNN, answers: World) -> None:
    view = AttackerView(5, [answers(1, edge=3.0, records=40)])
    quick = replace(attack, schedule=replace(attack.schedule, epochs=3))
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        states.append(quick.fit(view, np.random.default_rng(3)))
        assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(states[0].hidden_FH, states[1].hidden_FH)


@pytest.mark.parametrize(("records", "batch"), [(300, 10), (1000, 10), (6000, 60), (30000, 300)])
def test_the_number_of_steps_is_bounded(records: int, batch: int) -> None:
    schedule = NN_TOP3_POSTERIORS.schedule
    assert schedule.batch_for(records) == batch
    assert -(-records // batch) * schedule.epochs <= schedule.max_steps


def test_small_sorted_logits_keep_the_batch_of_the_paper() -> None:
    assert NN_SORTED_LOGITS.schedule.batch_for(300) == 256


@BOTH
@pytest.mark.parametrize("member", [True, False])
def test_a_shadow_of_members_only_is_refused(attack: SalemNN, member: bool, answers: World) -> None:
    signals = answers(1, edge=1.0, records=10).signals
    with pytest.raises(InputError, match="needs members and non-members"):
        attack.fit(AttackerView(5, [ShadowSignals(signals, np.full(10, member))]), np.random.default_rng(0))


def test_no_shadow_is_refused() -> None:
    with pytest.raises(InputError, match="shadow"):
        NN_SORTED_LOGITS.fit(AttackerView(5), np.random.default_rng(0))
