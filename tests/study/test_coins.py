"""Canaries by coins: too few of them tell nothing, and targets that draw different numbers spend different ε."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raymia.defenses import DPSGD, EarlyStopping, spent_epsilon
from raymia.errors import InputError
from raymia.privacy import Guarantee, default_delta
from raymia.recipes.model import ModelRecipe
from raymia.recipes.signals import SignalsRecipe
from raymia.records import Records
from raymia.records.plan import poisson_membership
from raymia.space import Setting
from raymia.study.publish import MeasuredSetting
from raymia.training.defense import Composed, Defense
from tests.recipes.conftest import ground_of
from tests.study.test_standing import study

NOBODY = np.zeros(0, dtype=np.int64)
PRIVATE = DPSGD(noise_multiplier=1.0, batch_size=100)
EPOCHS, BATCH = 2, 64


@pytest.mark.parametrize(("seed", "drawn"), [(seed, drawn) for drawn in ("all", "none") for seed in range(2)])
def test_a_single_canary_is_refused_whichever_way_its_coin_falls(seed: int, drawn: str) -> None:
    """One is all of them or none of them."""
    chosen = next(
        number
        for number in range(seed * 50, 1000)
        if poisson_membership(1, seed=number, target=0).all() == (drawn == "all")
    )
    with pytest.raises(InputError) as caught:
        study(plan__canaries=1, seed=chosen)
    assert str(caught.value) == (f"plan.canaries is 1: target 0 would train on {drawn} of them; give 20 or more")


def test_enough_canaries_pass_and_so_does_none() -> None:
    for canaries in (0, 20, 40):
        for seed in range(5):
            assert study(plan__canaries=canaries, plan__targets=8, seed=seed)


def test_any_target_may_be_the_one_whose_coins_all_fall_alike() -> None:
    """Two canaries: refused as soon as one of the study's targets has both or neither."""

    def alike(seed: int, target: int) -> bool:
        drawn = poisson_membership(2, seed=seed, target=target)
        return bool(drawn.all() or not drawn.any())

    seed = next(
        number for number in range(1000) if [alike(number, target) for target in range(3)] == [False, False, True]
    )
    assert study(plan__canaries=2, plan__targets=2, seed=seed)
    with pytest.raises(InputError, match=r"plan\.canaries is 2: target 2 would train on (all|none) of them"):
        study(plan__canaries=2, plan__targets=3, seed=seed)


# The guarantee of targets with different numbers of members.


def guarantee_of(digits: Records, counts: tuple[int, ...], *defenses: Defense) -> Guarantee | None:
    """As the table has it, of a setting whose targets have so many members."""
    ground = ground_of(digits, {"training.epochs": EPOCHS, "training.batch_size": BATCH})
    defense = Composed(defenses)
    targets: list[Any] = []
    for number, count in enumerate(counts):
        model = ModelRecipe(ground, defense, np.arange(count), NOBODY, ("target", number), frozenset({EPOCHS}))
        targets.append(SimpleNamespace(signals=SignalsRecipe(model, EPOCHS, np.arange(count))))
    recipe: Any = SimpleNamespace(targets=tuple(targets))
    measured: Any = SimpleNamespace(seeds=(), pooled={})
    return MeasuredSetting(Setting(defense), recipe, measured).result.guarantee


def spent(count: int, delta: float, *defenses: Defense) -> float:
    found = spent_epsilon(Composed(defenses), count, BATCH, EPOCHS, delta)
    assert found is not None
    assert found.delta == delta
    return found.epsilon


@pytest.mark.parametrize(
    ("counts", "weakest"),
    [
        # Of 1,010 members an epoch has eleven steps of 100, of 1,000 ten.
        ((1000, 1010), 1010),
        ((1010, 1000), 1010),
        ((990, 1010), 1010),
        # Of as many steps each of fewer members is in more.
        ((1001, 1010), 1001),
        ((1010, 1000, 1005), 1005),
        # By itself the smaller would be given a larger δ.
        ((950, 1000), 950),
    ],
    ids=str,
)
def test_it_is_the_weakest_of_its_targets_at_one_delta(digits: Records, counts: tuple[int, ...], weakest: int) -> None:
    found = guarantee_of(digits, counts, PRIVATE)
    assert found is not None
    assert found.delta == default_delta(max(counts)) == 1e-4
    each = {count: spent(count, 1e-4, PRIVATE) for count in counts}
    assert max(each, key=each.__getitem__) == weakest
    assert len(set(each.values())) == len(each)
    assert found.epsilon == each[weakest]


def test_a_delta_of_its_own_is_everybodys(digits: Records) -> None:
    private = replace(PRIVATE, delta=1e-5)
    found = guarantee_of(digits, (990, 1010), private)
    assert found is not None
    assert found.delta == 1e-5
    assert found.epsilon == spent(1010, 1e-5, private) > spent(990, 1e-5, private)


def test_targets_that_are_as_large_have_the_guarantee_of_one(digits: Records) -> None:
    together, alone = guarantee_of(digits, (1000, 1000), PRIVATE), guarantee_of(digits, (1000,), PRIVATE)
    assert together == alone
    assert together == spent_epsilon(Composed((PRIVATE,)), 1000, BATCH, EPOCHS)
    half = guarantee_of(digits, (1000, 1010), PRIVATE, EarlyStopping(fraction=0.5))
    whole = guarantee_of(digits, (1000, 1010), PRIVATE)
    assert half is not None
    assert whole is not None
    assert half.epsilon < whole.epsilon


def test_without_dp_sgd_there_is_none(digits: Records) -> None:
    assert guarantee_of(digits, (1000, 1010)) is None
    assert guarantee_of(digits, (1000, 1010), EarlyStopping(fraction=0.5)) is None
