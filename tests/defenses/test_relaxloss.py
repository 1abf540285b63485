"""RelaxLoss: every branch by hand, the gradient included."""

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from raymia.defenses import RelaxLoss
from tests.training.conftest import (
    batch_of,
    cross_entropy,
    equal_bits,
    fit,
    image_rows,
    run_by_hand,
    small_config,
)

Variant = Literal["cifar_code", "paper"]
Floats = NDArray[np.float64]

# The first is right and sure, the second wrong, the third right by a little.
LOGITS = np.array([[2.0, -1.0, 0.5], [0.3, -0.4, 1.1], [0.1, 0.9, 0.6]])
LABELS = [0, 1, 1]
ONE_HOT = np.eye(3)[LABELS]
LOSS = float(cross_entropy(LOGITS, LABELS).mean())


def step(defense: RelaxLoss, epoch: int) -> tuple[float, Floats]:
    """The objective of one step, and its gradient with respect to a bias on the logits."""
    run = run_by_hand(defense, epoch=epoch)
    value = float(run.step(batch_of(LOGITS, LABELS), len(LABELS)))
    [bias] = run.model.parameters()
    assert bias.grad is not None
    return value, bias.grad.numpy().astype(np.float64)


def posteriors() -> Floats:
    exponentials = np.exp(LOGITS)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def plain_gradient() -> Floats:
    gradient: Floats = (posteriors() - ONE_HOT).mean(axis=0)
    return gradient


def flattening(upper: float, detached: bool) -> tuple[Floats, Floats]:
    """s_i = -Σ t_ik log p_ik and its gradient [N, K] by the logits, from the derivatives worked out on paper."""
    p = posteriors()
    confidence = p[np.arange(3), LABELS]
    kept = np.minimum(confidence, upper)
    t = np.where(ONE_HOT == 1, kept[:, None], (1 - kept[:, None]) / 2)
    gradient = p - t
    if not detached:
        # ∂c/∂z = p_y (1_y - p) where c is not held at its upper bound; t_y moves with c, the other two against it.
        moves = np.where(confidence < upper, confidence, 0)[:, None] * (ONE_HOT - p)
        own = np.log(confidence)
        others = (np.log(p) * (1 - ONE_HOT)).sum(axis=1) / 2
        gradient = gradient - moves * (own - others)[:, None]
    return -(t * np.log(p)).sum(axis=1), gradient


@pytest.mark.parametrize("epoch", [0, 2, 4])
@pytest.mark.parametrize("variant", ["cifar_code", "paper"])
def test_even_epochs_descend_above_the_target_and_ascend_below(variant: Variant, epoch: int) -> None:
    above, gradient = step(RelaxLoss(alpha=LOSS / 2, variant=variant), epoch)
    assert above == pytest.approx(LOSS / 2, rel=1e-5)
    np.testing.assert_allclose(gradient, plain_gradient(), rtol=1e-5)
    below, gradient = step(RelaxLoss(alpha=LOSS + 1, variant=variant), epoch)
    assert below == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(gradient, -plain_gradient(), rtol=1e-5)


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("variant", ["cifar_code", "paper"])
def test_odd_epochs_above_the_target_are_plain(variant: Variant, epoch: int) -> None:
    value, gradient = step(RelaxLoss(alpha=LOSS - 0.01, variant=variant), epoch)
    assert value == pytest.approx(LOSS, rel=1e-5)
    np.testing.assert_allclose(gradient, plain_gradient(), rtol=1e-5)


@pytest.mark.parametrize("upper", [1.0, 0.5])
@pytest.mark.parametrize("detached", [True, False])
def test_odd_epochs_below_the_target_flatten_as_the_paper_says(upper: float, detached: bool) -> None:
    defense = RelaxLoss(alpha=LOSS + 0.01, variant="paper", upper=upper, detach_target=detached)
    value, gradient = step(defense, epoch=1)
    s, slope = flattening(upper, detached)
    assert value == pytest.approx(s.mean(), rel=1e-5)
    np.testing.assert_allclose(gradient, slope.mean(axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("upper", [1.0, 0.5])
@pytest.mark.parametrize("detached", [True, False])
def test_odd_epochs_below_the_target_flatten_as_the_cifar_code_does(upper: float, detached: bool) -> None:
    """1[wrong] s_i - l_i: only the second record is wrong, and every cross entropy is pushed up."""
    defense = RelaxLoss(alpha=LOSS + 0.01, variant="cifar_code", upper=upper, detach_target=detached)
    value, gradient = step(defense, epoch=1)
    s, slope = flattening(upper, detached)
    wrong = np.array([0, 1, 0])
    assert value == pytest.approx((wrong * s).mean() - LOSS, rel=1e-4)
    np.testing.assert_allclose(gradient, (wrong[:, None] * slope).mean(axis=0) - plain_gradient(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("variant", "detached"), [("cifar_code", False), ("paper", True)])
def test_each_variant_treats_the_target_its_own_way(variant: Variant, detached: bool) -> None:
    _, own = step(RelaxLoss(alpha=9, variant=variant), epoch=1)
    _, asked = step(RelaxLoss(alpha=9, variant=variant, detach_target=detached), epoch=1)
    _, other = step(RelaxLoss(alpha=9, variant=variant, detach_target=not detached), epoch=1)
    np.testing.assert_array_equal(own, asked)
    assert np.abs(own - other).max() > 0.01


def test_a_target_of_zero_is_plain_training_bit_for_bit() -> None:
    config = small_config(augmentation="flip")
    plain, relaxed = fit(image_rows(), config), fit(image_rows(), config, RelaxLoss(alpha=0))
    assert equal_bits(plain.weights(6), relaxed.weights(6))
    assert plain.histories == relaxed.histories


def test_training_settles_near_the_target_loss() -> None:
    config = small_config(epochs=40, schedule="constant", warmup=0, learning_rate=0.1)
    plain = fit(image_rows(16), config).histories[40]
    relaxed = fit(image_rows(16), config, RelaxLoss(alpha=0.8)).histories[40]
    # Even epochs report |L - α|, and so end on an odd one.
    assert np.median(plain[-10:]) < 0.25
    assert np.median(relaxed[-10::2]) < 0.25
