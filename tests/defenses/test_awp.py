"""Adversarial weight perturbation: a step by hand, what is perturbed, what is left alone."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from raymia.adversarial import weights_to_perturb
from raymia.defenses import AWP, DPSGD, MART, PGDAT, TRADES, TRADESAWP, DeMem
from raymia.errors import InputError
from raymia.training.defense import Batch, Composed, Losses
from raymia.training.run import Run
from tests.adversarial.crafting import image_batch, image_run, linear, normalized
from tests.training.conftest import InterruptedRunError, MemoryKeeper, equal_bits, fit, image_rows, small_config

WEAK: dict[str, Any] = {"epsilon": 0.1, "steps": 2, "step_size": 0.05}
Floats = NDArray[np.float64]


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Floats = powers / powers.sum(axis=1, keepdims=True)
    return found


def slopes(batch: Batch, weight: Floats, bias: Floats) -> tuple[Floats, Floats]:
    """The gradient of a linear model's mean cross entropy, by the textbook."""
    pixels, one_hot = batch.inputs.flatten(1).numpy().astype(np.float64), batch.targets.numpy().astype(np.float64)
    off = (softmax(pixels @ weight.T + bias) - one_hot) / len(pixels)
    return off.T @ pixels, off.sum(axis=0)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_step_by_hand(decay: float) -> None:
    """v = γ ‖w‖ g/‖g‖ of the weight matrix, not of the bias; step from w + v, its decay there too; take v off."""
    run = image_run(PGDAT(**WEAK), AWP(gamma=0.3), rate=0.5)
    run.optimizer = torch.optim.SGD(run.model.parameters(), lr=0.5, weight_decay=decay)
    layer = run.model.net[1]  # type: ignore[index]
    layer.bias.data.copy_(torch.tensor([0.3, -0.2, 0.1]))
    weight, bias = (one.detach().numpy().astype(np.float64) for one in (layer.weight, layer.bias))
    weight, bias = weight.copy(), bias.copy()
    batch = run.defense.batch(run, image_batch(5))
    up, _ = slopes(batch, weight, bias)
    shift = 0.3 * np.linalg.norm(weight) * up / np.linalg.norm(up)
    down, down_bias = slopes(batch, weight + shift, bias)
    expected = weight + shift - 0.5 * (down + decay * (weight + shift)) - shift
    plain = weight - 0.5 * (up + decay * weight)
    run.step(batch, 5)
    np.testing.assert_allclose(layer.weight.detach().numpy(), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(layer.bias.detach().numpy(), bias - 0.5 * (down_bias + decay * bias), rtol=1e-4)
    assert np.abs(expected - plain).max() > 1e-3


def test_the_loss_it_returns_is_the_one_at_the_perturbed_weights() -> None:
    run, plain = image_run(PGDAT(**WEAK), AWP(gamma=0.3)), image_run(PGDAT(**WEAK))
    batch = image_batch(5)
    losses = [float(one.step(one.defense.batch(one, batch), 5)) for one in (run, plain)]
    assert losses[0] > losses[1]


def test_the_weights_are_perturbed_up_the_objective_without_penalties(monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors' proxy climbs the method's own loss; DeMem's penalty is at w + v, and not what v climbs."""
    seen: list[list[torch.Tensor]] = []

    def at(*defenses: Any) -> torch.Tensor:
        run = image_run(*defenses)
        batch = run.defense.batch(run, image_batch(6))
        weight = run.model.net[1].weight  # type: ignore[index]
        inner = run.losses

        def watched(asked: Batch) -> Losses:
            seen.append([weight.detach().clone()])
            return inner(asked)

        monkeypatch.setattr(run, "losses", watched)
        seen.clear()
        run.step(batch, 6)
        assert len(seen) == 2
        return seen[1][0] - seen[0][0]

    torch.testing.assert_close(
        at(PGDAT(**WEAK), AWP(gamma=0.3), DeMem(strength=5.0)), at(PGDAT(**WEAK), AWP(gamma=0.3))
    )


def test_matrices_and_kernels_are_perturbed_and_nothing_else() -> None:
    net = normalized()
    chosen = weights_to_perturb(net)
    assert [one is other for one, other in zip(chosen, (net[0].weight, net[5].weight), strict=True)] == [True, True]


def test_the_look_uphill_moves_no_batch_statistics() -> None:
    def statistics(*defenses: Any) -> tuple[int, torch.Tensor]:
        net = normalized()
        run = image_run(*defenses, net=net)
        run.step(run.defense.batch(run, image_batch(8)), 8)
        return int(net[1].num_batches_tracked), net[1].running_mean.clone()

    count, mean = statistics(PGDAT(**WEAK), AWP(gamma=1e-9))
    plain_count, plain = statistics(PGDAT(**WEAK))
    assert count == plain_count == 1
    torch.testing.assert_close(mean, plain)


def test_examples_are_crafted_before_the_weights_move() -> None:
    batch = image_batch(5)
    crafted = []
    for defenses in ((PGDAT(**WEAK),), (PGDAT(**WEAK), AWP(gamma=0.5)), (AWP(gamma=0.5), PGDAT(**WEAK))):
        run = image_run(*defenses)
        crafted.append(run.defense.batch(run, batch).inputs)
    assert torch.equal(crafted[0], crafted[1])
    assert torch.equal(crafted[0], crafted[2])


def test_trades_awp_is_trades_and_awp_bit_for_bit() -> None:
    config = small_config(epochs=3, augmentation="flip")
    one = fit(image_rows(), config, TRADESAWP(gamma=0.005, **WEAK)).weights(3)
    assert equal_bits(fit(image_rows(), config, TRADES(**WEAK), AWP(gamma=0.005)).weights(3), one)
    assert equal_bits(fit(image_rows(), config, AWP(gamma=0.005), TRADES(**WEAK)).weights(3), one)
    assert not equal_bits(fit(image_rows(), config, TRADES(**WEAK)).weights(3), one)
    assert TRADESAWP() == TRADESAWP(gamma=0.005, beta=6.0, epsilon=8 / 255, step_size=0.007, steps=10, norm="linf")


@pytest.mark.parametrize("method", [PGDAT(**WEAK), MART(**WEAK)])
def test_a_training_resumed_equals_an_undisturbed_one(method: Any) -> None:
    config = small_config(epochs=3, augmentation="flip")
    undisturbed = fit(image_rows(), config, method, AWP())
    keeper = MemoryKeeper(stop_at=2)
    with pytest.raises(InterruptedRunError):
        fit(image_rows(), config, method, AWP(), keeper=keeper)
    keeper.stop_at = None
    fit(image_rows(), config, method, AWP(), keeper=keeper)
    assert equal_bits(keeper.weights(3), undisturbed.weights(3))


def test_alone_it_is_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match=r"^awp: perturbs adversarial training; write pgd_at, trades or mart beside"):
        image_run(AWP())
    with pytest.raises(InputError, match="both replace 'update'"):
        Composed((TRADESAWP(), AWP()))
    with pytest.raises(InputError, match="both replace 'update'"):
        Composed((DPSGD(epsilon=8), AWP()))


class _Unnamed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(4, 3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.flatten(1) @ self.kernel


@pytest.mark.parametrize("defenses", [(PGDAT(), AWP()), (TRADESAWP(),)])
def test_a_model_without_named_weights_is_refused(defenses: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match=r"the model _Unnamed has no parameter of two dimensions or more"):
        image_run(*defenses, net=_Unnamed())


def test_a_weight_that_the_objective_does_not_move_stays() -> None:
    net = linear()
    run: Run = image_run(PGDAT(**WEAK), AWP(), net=net)
    net.register_parameter("idle_weight", nn.Parameter(torch.ones(2, 2)))
    run.step(run.defense.batch(run, image_batch(4)), 4)
    assert torch.equal(net.get_parameter("idle_weight"), torch.ones(2, 2))
