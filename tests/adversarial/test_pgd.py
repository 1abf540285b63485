"""The inner attack: what it finds on a linear model, and that the model is left as it was."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from raymia.adversarial import Attack, Norm, craft, only_asked
from raymia.training.defense import soft_cross_entropy
from tests.adversarial.crafting import image_batch, image_run, images, linear, normalized

LINF = Attack("linf", 0.1, 20, 0.02)


def gain_of(labels: Tensor) -> Any:
    return lambda logits: functional.cross_entropy(logits, labels, reduction="sum")


@pytest.mark.parametrize("start", ["uniform", "gaussian"])
def test_on_two_classes_a_linear_model_has_one_worst_corner(start: Any) -> None:
    """The cross entropy of class 0 grows along w₁ - w₀ and nowhere else, wherever the attack starts."""
    net = linear(2)
    clean = images(5, low=0.05, high=0.95)
    attack = Attack("linf", 0.1, 20, 0.02, start)
    found = craft(net, clean, gain_of(torch.zeros(5, dtype=torch.int64)), attack, np.random.default_rng(0))
    weight = net[1].weight.detach()
    toward = (weight[1] - weight[0]).sign().reshape(1, 1, 2, 2)
    torch.testing.assert_close(found, (clean + 0.1 * toward).clamp(0, 1))


def test_in_l2_it_moves_along_the_slope() -> None:
    net = linear(2)
    clean = images(5, low=0.3, high=0.7)
    attack = Attack("l2", 0.2, 40, 0.05)
    found = craft(net, clean, gain_of(torch.zeros(5, dtype=torch.int64)), attack, np.random.default_rng(0))
    weight = net[1].weight.detach()
    slope = (weight[1] - weight[0]).reshape(1, 1, 2, 2)
    torch.testing.assert_close(found, clean + 0.2 * slope / slope.norm(), rtol=0, atol=2e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loss_of_every_record_rises(norm: Norm, precision: str) -> None:
    run = image_run(net=normalized(), precision=precision)
    batch = image_batch(16)
    found = craft(
        run.model,
        batch.inputs,
        gain_of(batch.labels),
        Attack(norm, 0.3, 10, 0.1),
        np.random.default_rng(0),
        run.autocast,
    )
    assert found.dtype == torch.float32
    run.model.eval()
    before, after = (soft_cross_entropy(run.model(one), batch.targets) for one in (batch.inputs, found))
    assert bool((after > before).all())


def test_a_record_is_attacked_alone() -> None:
    """What is crafted from one depends on no other, so the noise of the start apart the batch does not matter."""
    run = image_run(net=normalized())
    batch = image_batch(6)
    attack = Attack("linf", 0.1, 5, 0.02)
    whole = craft(run.model, batch.inputs, gain_of(batch.labels), attack, np.random.default_rng(0))
    part = craft(run.model, batch.inputs[:2], gain_of(batch.labels[:2]), attack, np.random.default_rng(0))
    torch.testing.assert_close(whole[:2], part)


def test_the_model_is_left_as_it_was() -> None:
    """Batch statistics, modes (a layer frozen by hand stays so), gradients and which parameters learn."""
    net = normalized()
    run = image_run(net=net)
    net[1].eval()
    net[0].bias.requires_grad_(False)
    net[5].weight.grad = torch.full_like(net[5].weight, 7.0)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    modes = [module.training for module in run.model.modules()]
    learning = [parameter.requires_grad for parameter in run.model.parameters()]
    batch = image_batch(6)
    found = craft(run.model, batch.inputs, gain_of(batch.labels), LINF, np.random.default_rng(0))
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    assert [module.training for module in run.model.modules()] == modes
    assert modes.count(False) == 1
    assert [parameter.requires_grad for parameter in run.model.parameters()] == learning
    assert learning.count(False) == 1
    grads = [parameter.grad for parameter in run.model.parameters()]
    assert grads[4] is not None
    assert torch.equal(grads[4], torch.full_like(net[5].weight, 7.0))
    assert [grad is None for grad in grads].count(False) == 1
    assert not found.requires_grad
    assert not batch.inputs.requires_grad


def test_batch_statistics_do_not_move_in_training_mode_either() -> None:
    net = normalized()
    run = image_run(net=net)
    before = [value.clone() for value in net[1].buffers()]
    craft(run.model, images(6), gain_of(torch.zeros(6, dtype=torch.int64)), LINF, np.random.default_rng(0))
    assert all(torch.equal(value, kept) for value, kept in zip(net[1].buffers(), before, strict=True))
    assert net[1].training
    run.model(images(6))
    assert not torch.equal(net[1].running_mean, before[0])


def test_a_crash_while_crafting_restores_the_model_too() -> None:
    run = image_run(net=normalized())

    def crash(logits: Tensor) -> Tensor:
        raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        craft(run.model, images(2), crash, LINF, np.random.default_rng(0))
    assert all(module.training for module in run.model.modules())
    assert all(parameter.requires_grad for parameter in run.model.parameters())


ASKED: list[tuple[bool, ...]] = []


class _Product(torch.autograd.Function):
    """A product that writes down whose gradients its backward pass is asked for."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return inputs @ weight.T

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        inputs, weight = ctx.saved_tensors
        ASKED.append(tuple(ctx.needs_input_grad))
        return grads[0] @ weight, grads[0].T @ inputs


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 4) * torch.tensor([[1.0], [-1.0]]))

    def forward(self, inputs: Tensor) -> Tensor:
        return _Product.apply(inputs.flatten(1), self.weight)


def test_no_gradient_of_a_parameter_is_computed_while_crafting() -> None:
    layer = _Layer()
    ASKED.clear()
    layer.weight.register_hook(lambda gradient: pytest.fail("a parameter's gradient was computed"))
    craft(layer, images(3), gain_of(torch.zeros(3, dtype=torch.int64)), LINF, np.random.default_rng(0))
    assert len(ASKED) == LINF.steps
    assert set(ASKED) == {(True, False)}
    assert layer.weight.grad is None


def test_the_start_comes_from_the_stream_alone() -> None:
    run = image_run(net=normalized())
    batch = image_batch(4)

    attack = Attack("linf", 0.1, 1, 0.01)

    def once(seed: int) -> Tensor:
        return craft(run.model, batch.inputs, gain_of(batch.labels), attack, np.random.default_rng(seed))

    state = torch.get_rng_state()
    first = once(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(17)
    assert torch.equal(once(1), first)
    assert not torch.equal(once(2), first)


def test_no_records_have_no_examples() -> None:
    found = craft(linear(), images(0), gain_of(torch.zeros(0, dtype=torch.int64)), LINF, np.random.default_rng(0))
    assert found.shape == (0, 1, 2, 2)


def test_only_asked_inside_is_quiet() -> None:
    net = normalized()
    with only_asked(net):
        assert not any(module.training for module in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())
