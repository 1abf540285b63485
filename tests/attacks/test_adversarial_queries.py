"""Attacks on adversarial queries: the attack as it is, on other answers, and never on the plain ones."""

from dataclasses import replace

import numpy as np
import pytest

from raymia.attacks import (
    ATTACKS,
    Attack,
    AttackerView,
    Needs,
    ShadowSignals,
    attack_named,
    run_attack,
    shadow_threshold,
)
from raymia.errors import InputError
from tests.attacks.worlds import make_world

BY_ANSWERS = [
    attack
    for attack in ATTACKS.values()
    if not attack.needs & {Needs.QUERIES, Needs.IMAGES, Needs.GRADIENT_NORM} and not attack.name.startswith("nn_")
]


def asked_adversarially(view: AttackerView) -> AttackerView:
    shadows = [ShadowSignals(replace(one.signals, adversarial=True), one.member_N) for one in view.shadows]
    return replace(view, shadows=shadows)


@pytest.mark.parametrize("attack", BY_ANSWERS, ids=lambda attack: attack.name)
def test_it_scores_as_the_attack_does_on_the_same_answers(attack: Attack) -> None:
    world = make_world(1, edge=2.0)
    view, target = asked_adversarially(world.view), replace(world.target, adversarial=True)
    adversarial = attack_named(f"{attack.name}_adversarial")
    assert adversarial.needs == attack.needs | {Needs.ADVERSARIAL_QUERIES}
    assert adversarial.knowledge.startswith(attack.knowledge)
    rngs = [np.random.default_rng(0) for _ in range(4)]
    np.testing.assert_array_equal(
        run_attack(adversarial, view, target, rngs[0]), run_attack(attack, world.view, world.target, rngs[1])
    )
    assert shadow_threshold(adversarial, view, rngs[2]) == shadow_threshold(attack, world.view, rngs[3])


def test_it_is_never_run_on_plain_answers() -> None:
    world = make_world(1, edge=2.0)
    attack = attack_named("loss_adversarial")
    with pytest.raises(InputError, match="needs answers to adversarial examples of the records: give them"):
        run_attack(attack, world.view, world.target, np.random.default_rng(0))
    assert shadow_threshold(attack, world.view, np.random.default_rng(0)) is None  # nor is its threshold learned there


@pytest.mark.parametrize("name", ["los_adversarial", "_adversarial", "loss_adversarial_adversarial"])
def test_a_name_that_is_none_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError) as refused:
        attack_named(name)
    assert "\n" not in str(refused.value)
