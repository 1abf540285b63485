"""The confidence penalty: its value and its slope by hand."""

import numpy as np
import pytest
import torch

from raymia.defenses import ConfidencePenalty, build_defense
from raymia.errors import InputError
from tests.training.conftest import batch_of, cross_entropy, equal_bits, fit, image_rows, run_by_hand, small_config


def test_entropy_is_rewarded_by_beta() -> None:
    """p = (.7, .2, .1) has an entropy of .80182 nats."""
    logits = np.log([[0.7, 0.2, 0.1]])
    losses = run_by_hand(ConfidencePenalty(beta=0.5)).losses(batch_of(logits, [1]))
    assert losses.penalties["confidence_penalty"].item() == pytest.approx(-0.5 * 0.80182, abs=1e-5)
    assert losses.total.item() == pytest.approx(-np.log(0.2) - 0.5 * 0.80182, abs=1e-5)


def test_the_mean_over_the_batch_is_descended() -> None:
    logits = np.array([[2.0, -1.0, 0.5], [0.3, -0.4, 1.1]])
    run = run_by_hand(ConfidencePenalty(beta=0.4))
    value = float(run.step(batch_of(logits, [0, 1]), 2))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    entropy = -(p * np.log(p)).sum(axis=1)
    assert value == pytest.approx(cross_entropy(logits, [0, 1]).mean() - 0.4 * entropy.mean(), abs=1e-6)
    # ∂H/∂z = -p (log p + H)
    expected = (p - np.eye(3)[[0, 1]] + 0.4 * p * (np.log(p) + entropy[:, None])).mean(axis=0)
    [bias] = run.model.parameters()
    assert bias.grad is not None
    np.testing.assert_allclose(bias.grad.numpy(), expected, atol=1e-6)


def test_a_penalized_model_is_less_sure_and_beta_0_is_plain_training_bit_for_bit() -> None:
    config = small_config(epochs=20, learning_rate=0.1)
    plain = fit(image_rows(), config)
    penalized = fit(image_rows(), config, ConfidencePenalty(beta=1.0))
    assert equal_bits(fit(image_rows(), config, ConfidencePenalty(beta=0)).weights(20), plain.weights(20))

    def confidence(weights: dict[str, torch.Tensor]) -> float:
        from tests.training.conftest import images_of, small_model

        model = small_model(image_rows())()
        model.load_state_dict(weights)
        model.eval()
        images = torch.from_numpy(images_of(image_rows())).permute(0, 3, 1, 2).float() / 255
        return float(model(images).softmax(dim=1).max(dim=1).values.mean().detach())

    assert confidence(penalized.weights(20)) < confidence(plain.weights(20)) - 0.1


def test_a_negative_beta_is_refused() -> None:
    with pytest.raises(InputError, match=r"^confidence_penalty.beta: .*greater than or equal to 0"):
        build_defense("confidence_penalty", {"beta": -0.1})
