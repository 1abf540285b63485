"""MART: its loss by hand, and its gradient against differences of that loss."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raymia.adversarial import Attack, CraftedBatch, craft
from raymia.defenses import MART, RelaxLoss
from raymia.errors import InputError
from raymia.training.defense import Composed, soft_cross_entropy
from tests.adversarial.crafting import image_batch, image_run, normalized, of_logits, passed_on
from tests.training.conftest import (
    InterruptedRunError,
    MemoryKeeper,
    batch_of,
    equal_bits,
    fit,
    image_rows,
    small_config,
)

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
Q = np.array([[0.5, 0.3, 0.2], [0.2, 0.1, 0.7]])
LABELS = [0, 1]
QUICK = MART(epsilon=0.1, steps=2, step_size=0.05)


def crafted_by_hand(p: NDArray[np.float64] = P, q: NDArray[np.float64] = Q) -> CraftedBatch:
    clean = batch_of(np.zeros((2, 3)), LABELS)
    clean.inputs = of_logits(np.log(p).tolist())
    return CraftedBatch.of(clean, of_logits(np.log(q).tolist()))


def by_the_paper(p: NDArray[np.float64], q: NDArray[np.float64], strength: float) -> float:
    rows = np.arange(2)
    others = q.copy()
    others[rows, LABELS] = 0
    boosted = -np.log(q[rows, LABELS]) - np.log(1.0001 - others.max(axis=1))
    weighed = (p * np.log(p / q)).sum(axis=1) * (1 - p[rows, LABELS])
    return float((boosted + strength * weighed).mean())


def shifted(answers: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = answers * np.exp(bias)
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_loss_by_hand() -> None:
    """Of the first: -ln .5 - ln .7001 + 5 · .3 · (.7 ln 1.4 + .2 ln ⅔ + .1 ln ½); the second is taken for class 2."""
    first = 0.69315 + 0.35653 + 5 * 0.3 * (0.23553 - 0.08109 - 0.06931)
    second = -np.log(0.1) - np.log(0.3001) + 5 * 0.7 * (-0.06931 + 0.32958 - 0.09249)
    losses = image_run(MART(strength=5), net=passed_on()).losses(crafted_by_hand())
    assert losses.total.item() == pytest.approx((first + second) / 2, abs=1e-4)
    assert by_the_paper(P, Q, 5) == pytest.approx((first + second) / 2, abs=1e-4)
    assert losses.terms["adversarial_ce"].tolist() == pytest.approx([0.69315, 2.30259], abs=1e-5)


def test_the_gradient_is_that_of_the_formula_the_clean_answer_included() -> None:
    run = image_run(MART(strength=5), net=passed_on())
    run.losses(crafted_by_hand()).total.backward()
    steps = 1e-6 * np.eye(3)
    slopes = [
        (by_the_paper(shifted(P, step), shifted(Q, step), 5) - by_the_paper(shifted(P, -step), shifted(Q, -step), 5))
        / 2e-6
        for step in steps
    ]
    bias = run.model.net[1].bias  # type: ignore[index]
    np.testing.assert_allclose(bias.grad.numpy(), slopes, rtol=1e-3, atol=1e-5)
    held = [(by_the_paper(P, shifted(Q, step), 5) - by_the_paper(P, shifted(Q, -step), 5)) / 2e-6 for step in steps]
    assert np.abs(np.subtract(held, slopes)).max() > 0.05


def test_the_margin_stays_finite_where_another_class_has_everything() -> None:
    sure = np.array([[1e-30, 1 - 2e-30, 1e-30], [0.2, 0.1, 0.7]])
    run = image_run(MART(strength=5), net=passed_on())
    total = run.losses(crafted_by_hand(q=sure)).total
    total.backward()
    assert bool(total.isfinite())
    assert bool(run.model.net[1].bias.grad.isfinite().all())  # type: ignore[index]


def test_examples_climb_the_cross_entropy_from_a_gaussian_start() -> None:
    run = image_run(QUICK, net=normalized())
    batch = image_batch(8)
    crafted = run.defense.batch(run, batch)
    assert isinstance(crafted, CraftedBatch)
    assert torch.equal(crafted.inputs, batch.inputs)
    by_hand = craft(
        run.model,
        batch.inputs,
        lambda logits: soft_cross_entropy(logits, batch.targets).sum(),
        Attack("linf", 0.1, 2, 0.05, "gaussian"),
        np.random.default_rng(0),
    )
    assert torch.equal(crafted.adversarial, by_hand)


def test_a_training_resumed_equals_an_undisturbed_one() -> None:
    config = small_config(epochs=3, precision="bf16")
    undisturbed = fit(image_rows(), config, QUICK)
    keeper = MemoryKeeper(stop_at=2)
    with pytest.raises(InterruptedRunError):
        fit(image_rows(), config, QUICK, keeper=keeper)
    keeper.stop_at = None
    fit(image_rows(), config, QUICK, keeper=keeper)
    assert equal_bits(keeper.weights(3), undisturbed.weights(3))


def test_what_replaces_the_objective_is_refused() -> None:
    with pytest.raises(InputError, match="both replace 'objective'"):
        Composed((QUICK, RelaxLoss(alpha=0.5)))
