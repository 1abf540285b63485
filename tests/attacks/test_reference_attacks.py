from dataclasses import replace

import numpy as np
import pytest

from raymia.attacks import AttackP, AttackR, CalibratedLoss, Loss, Signals, run_attack
from raymia.errors import InputError
from tests.attacks.worlds import make_world, two_class_logits, world_of_confidences

PHI_M = [2.0, 1.0, 0.0, -1.0, 3.0, 4.0, 5.0, 9.0]
IN_M1 = np.array([[False], [False], [False], [False], [True], [True], [True], [True]])


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def loss(phi: float) -> float:
    return float(np.log1p(np.exp(-phi)))


@pytest.mark.parametrize(("phi", "share"), [(-2, 0), (-1, 0.25), (0.5, 0.5), (1, 0.75), (3, 1)])
def test_attack_r_counts_the_out_models_with_no_smaller_loss(phi: float, share: float) -> None:
    view, target = world_of_confidences(np.array([[phi]]), np.array(PHI_M)[:, None, None], IN_M1)
    assert run_attack(AttackR(), view, target, rng())[0] == share


def test_attack_r_averages_the_queries() -> None:
    phi_MNQ = np.stack([PHI_M, PHI_M], axis=1)[:, None]
    view, target = world_of_confidences(np.array([[-1.0, 3.0]]), phi_MNQ, IN_M1)
    assert run_attack(AttackR(), view, target, rng())[0] == (0.25 + 1) / 2


def test_attack_r_tells_losses_apart_that_round_to_zero() -> None:
    phi_M = np.array([800.0, 900.0, 1000.0, 1100.0])
    view, target = world_of_confidences(np.array([[950.0]]), phi_M[:, None, None], np.zeros((4, 1), bool))
    assert run_attack(AttackR(), view, target, rng())[0] == 0.5


def test_calibrated_loss_by_hand() -> None:
    view, target = world_of_confidences(np.array([[1.5]]), np.array(PHI_M)[:, None, None], IN_M1)
    inside, outside = np.mean([loss(phi) for phi in PHI_M[4:]]), np.mean([loss(phi) for phi in PHI_M[:4]])
    online = run_attack(CalibratedLoss(online=True), view, target, rng())[0]
    offline = run_attack(CalibratedLoss(online=False), view, target, rng())[0]
    assert online == pytest.approx((inside + outside) / 2 - loss(1.5))
    assert offline == pytest.approx(outside - loss(1.5))


def test_calibrated_loss_averages_the_queries() -> None:
    phi_MNQ = np.stack([PHI_M, [0.0] * 8], axis=1)[:, None]
    view, target = world_of_confidences(np.array([[1.5, -1.0]]), phi_MNQ, IN_M1)
    outside = np.mean([loss(phi) for phi in PHI_M[:4]])
    expected = ((outside - loss(1.5)) + (loss(0) - loss(-1.0))) / 2
    assert run_attack(CalibratedLoss(online=False), view, target, rng())[0] == pytest.approx(expected)


def test_infinite_losses_count_as_large_ones() -> None:
    phi_M = np.array([-np.inf, -np.inf, 0.0, 0.0, -np.inf, 0.0, 0.0, 0.0])
    logits = [two_class_logits(np.array([[max(phi, -9e9)]])) for phi in phi_M]
    view, target = world_of_confidences(np.array([[-9e9]]), np.zeros((8, 1, 1)), IN_M1)
    references = replace(target.references, answers=logits)  # type: ignore[type-var]
    score = run_attack(CalibratedLoss(online=True), view, replace(target, references=references), rng())[0]
    assert score == pytest.approx((1e4 / 4 + 1e4 / 2) / 2 - 1e4, rel=1e-3)


def test_attack_p_counts_the_population_with_no_smaller_loss() -> None:
    population = Signals(two_class_logits(np.array([[-1.0], [0.0], [1.0], [2.0]])), np.zeros(4, np.int64))
    phi_N = np.array([-2.0, -1.0, 0.5, 2.0, 5.0])
    view, target = world_of_confidences(phi_N[:, None], np.zeros((1, 5, 1)), np.zeros((1, 5), bool))
    scores = run_attack(AttackP(), replace(view, population=population), target, rng())
    assert list(scores) == [0, 0.25, 0.5, 1, 1]


def test_attack_p_orders_as_the_loss_does_and_says_the_false_positive_rate() -> None:
    world = make_world(5, edge=2.0, records=4000, queries=1)
    scores = run_attack(AttackP(), world.view, world.target, rng())
    losses = run_attack(Loss(), world.view, world.target, rng())
    assert (np.diff(scores[np.argsort(losses)]) >= 0).all()
    for alpha in (0.02, 0.1, 0.5):
        realized = float((scores[~world.member_N] >= 1 - alpha).mean())
        assert realized == pytest.approx(alpha, abs=4 * np.sqrt(alpha * (1 - alpha) * (1 / 2000 + 1 / 4000)))


def test_attack_p_without_population_records_is_refused() -> None:
    world = make_world(1, edge=2.0)
    assert world.view.population is not None
    nothing = replace(world.view, population=world.view.population.take(slice(0, 0)))
    with pytest.raises(InputError, match="attack_p needs population records"):
        run_attack(AttackP(), nothing, world.target, rng())
