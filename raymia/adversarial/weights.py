"""Adversarial weight perturbation (Wu, Xia, Wang 2020, arXiv 2004.05884): steps taken from uphill of the weights."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from raymia.errors import InputError
from raymia.training.defense import Batch
from raymia.training.run import Run


def weights_to_perturb(model: nn.Module) -> list[nn.Parameter]:
    """The authors' choice: parameters of more than one dimension that are named a weight."""
    named = model.named_parameters()
    return [one for name, one in named if "weight" in name and one.ndim > 1 and one.requires_grad]


def need_weights(run: Run, name: str) -> None:
    """Raises InputError for a model that has none of them."""
    if not weights_to_perturb(run.model):
        raise InputError(
            f"{name}: the model {type(run.model.net).__name__} has no parameter of two dimensions or more named "
            "weight, so nothing would be perturbed; name its matrices `weight`, or choose another defense"
        )


def perturbed_step(run: Run, batch: Batch, inner: Callable[[], Tensor], gamma: float) -> Tensor:
    """The step `inner` at `w + v`, then `v` taken off again: `v = γ ‖w‖ g/‖g‖` for each weight tensor.

    g: the gradient of the batch's objective, without penalties, averaged over the group. The step's weight decay is
    at `w + v`, as in the authors' code. The look uphill moves no batch statistics. Returns the loss at `w + v`.
    """
    weights = weights_to_perturb(run.model)
    shifts = _uphill(run, batch, weights, gamma)
    with torch.no_grad():
        for weight, shift in zip(weights, shifts, strict=True):
            weight.add_(shift)
    loss = inner()
    with torch.no_grad():
        for weight, shift in zip(weights, shifts, strict=True):
            weight.sub_(shift)
    return loss


def _uphill(run: Run, batch: Batch, weights: list[nn.Parameter], gamma: float) -> list[Tensor]:
    statistics = [(buffer, buffer.clone()) for buffer in run.model.buffers()]
    objective = run.losses(batch).objective
    run.optimizer.zero_grad(set_to_none=True)
    # As in a plain step: the workers' shares of a last batch may differ in size.
    (objective * (len(batch.labels) / run.group.mean(len(batch.labels)))).backward()
    with torch.no_grad():
        for buffer, before in statistics:
            buffer.copy_(before)
        return [_shift(weight, gamma) for weight in weights]


def _shift(weight: nn.Parameter, gamma: float) -> Tensor:
    if weight.grad is None:
        return torch.zeros_like(weight)
    return weight.grad * (gamma * weight.norm() / (weight.grad.norm() + 1e-20))
