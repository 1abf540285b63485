"""With what DP-SGD goes together, what is refused, and what is claimed for it."""

from typing import Any

import pytest
import torch
from torch import nn

from raymia.defenses import (
    DPSGD,
    DiffusionMixup,
    Dropout,
    EarlyStopping,
    LabelSmoothing,
    Mixup,
    RelaxLoss,
    Undefended,
    build_defense,
    spent_epsilon,
)
from raymia.errors import InputError
from raymia.training.defense import Composed, Defense
from tests.training.conftest import (
    fit,
    image_rows,
    run_by_hand,
    small_config,
)


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(3, 3)


PRIVATE = DPSGD(noise_multiplier=0.8, batch_size=2, physical_batch=3, learning_rate=0.2)
BESIDE = (Dropout(rate=0.3), LabelSmoothing(epsilon=0.1), EarlyStopping(fraction=1.0))


@pytest.mark.parametrize("other", [*BESIDE, Undefended()])
def test_defenses_that_couple_nobody_compose_in_either_order(other: Defense) -> None:
    Composed((PRIVATE, other))
    Composed((other, PRIVATE))


@pytest.mark.parametrize(
    "other",
    [Mixup(alpha=1.0), RelaxLoss(alpha=1.0), DiffusionMixup(subset=0.1)],
)
def test_every_other_combination_is_refused_with_the_reason(other: Defense) -> None:
    for parts in ((PRIVATE, other), (other, PRIVATE)):
        with pytest.raises(InputError, match=f"defenses dp_sgd and {other.name} cannot be combined: .*couples records"):
            Composed(parts)
    Composed((other, Undefended()))


def test_two_of_it_are_refused() -> None:
    with pytest.raises(InputError, match="both replace 'update'"):
        Composed((PRIVATE, DPSGD(epsilon=1.0)))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, "dp_sgd: .*exactly one of epsilon and noise_multiplier"),
        ({"epsilon": 1.0, "noise_multiplier": 1.0}, "exactly one of epsilon and noise_multiplier"),
        ({"epsilon": 0.0}, r"dp_sgd\.epsilon: .*greater than 0"),
        ({"noise_multiplier": -1.0}, r"dp_sgd\.noise_multiplier"),
        ({"epsilon": 1.0, "delta": 1.0}, r"dp_sgd\.delta"),
        ({"epsilon": 1.0, "max_grad_norm": 0.0}, r"dp_sgd\.max_grad_norm"),
        ({"epsilon": 1.0, "physical_batch": 0}, r"dp_sgd\.physical_batch"),
        ({"epsilon": float("inf")}, r"dp_sgd\.epsilon: must be a finite number"),
    ],
)
def test_hyperparameters_that_cannot_be_are_refused_in_one_line(given: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        build_defense("dp_sgd", given)
    assert "\n" not in str(caught.value)


def test_several_workers_a_model_are_refused() -> None:
    class Two:
        rank, world = 0, 2

        def wrap(self, model: nn.Module) -> nn.Module:
            return model

        def mean(self, value: float) -> float:
            return value

    with pytest.raises(InputError, match=r"one worker a model; set engine\.workers_per_model to 1"):
        fit(image_rows(), small_config(), PRIVATE, group=Two())


def test_a_target_is_spent_by_the_whole_training_and_less_by_a_part() -> None:
    target, study = DPSGD(epsilon=4.0), (1500, 100, 10)
    whole = spent_epsilon(Composed((target,)), *study)
    half = spent_epsilon(Composed((LabelSmoothing(epsilon=0.1), target, EarlyStopping(fraction=0.5))), *study)
    assert whole is not None
    assert half is not None
    assert 3.9 < whole.epsilon <= 4
    assert half.epsilon < 0.85 * whole.epsilon
    assert (whole.delta, whole.accountant, whole.meaningful) == (1e-4, "prv", True)
    # Noise, steps and δ of one's own are what is accounted for.
    noise = target.noise(*study)
    assert spent_epsilon(Composed((DPSGD(noise_multiplier=noise),)), *study) == whole
    rare = spent_epsilon(Composed((DPSGD(noise_multiplier=noise, batch_size=50, delta=1e-4),)), *study)
    assert rare is not None
    assert rare.epsilon < whole.epsilon
    strict = spent_epsilon(Composed((DPSGD(noise_multiplier=noise, delta=1e-6),)), *study)
    assert strict is not None
    assert strict.epsilon > whole.epsilon
    assert strict.delta == 1e-6


def test_without_it_nothing_is_claimed() -> None:
    assert spent_epsilon(Composed(()), 15000, 256, 30) is None
    assert spent_epsilon(Composed((Mixup(alpha=1.0), EarlyStopping(fraction=0.5))), 15000, 256, 30) is None


def test_the_training_adds_the_noise_that_is_accounted_for() -> None:
    target = DPSGD(epsilon=2.0, batch_size=2)
    run = run_by_hand(target, net=linear(), epochs=10)
    assert run.optimizer.noise_multiplier == target.noise(8, 128, 10) > 0.5  # type: ignore[attr-defined]
    assert run.optimizer.expected_batch_size == 2  # type: ignore[attr-defined]
