"""How far the records' losses lie apart, over the group's whole batch, as penalties that can be differentiated."""

from typing import Literal

import torch
from torch import Tensor

from raymia.training.run import Group

Mode = Literal["var", "var_low", "var_high", "std", "class_variance", "topk_mem"]


def spread(losses: Tensor, labels: Tensor, classes: int, mode: Mode, group: Group) -> Tensor:
    """The spread of per-sample losses [B] with labels int64[B] over all workers' records: a float32 scalar.

    var: the unbiased variance V. std: √V. var_low, var_high: V of the losses cut off above, below their mean, which is
    held constant. class_variance: of the mean losses of the classes in the batch. topk_mem: V of the losses given,
    which the caller has chosen. Nothing else is detached: averaged over workers that weigh their shares by size, as the
    plain step does, the gradient is the whole batch's.
    """
    values = losses.double()
    if mode == "class_variance":
        found = _class_variance(values, labels, classes, group)
    elif mode == "var_low":
        found = _variance(torch.minimum(values, _mean(values, group)), group)
    elif mode == "var_high":
        found = _variance(torch.maximum(values, _mean(values, group)), group)
    else:
        found = _variance(values, group)
    if mode == "std":
        found = found.clamp(min=1e-12).sqrt()
    return _weighed(found, len(losses), group).to(losses.dtype)


def _variance(values: Tensor, group: Group) -> Tensor:
    """Unbiased; about a constant center it has the same gradient, since deviations from the mean add up to 0."""
    count = group.mean(len(values)) * group.world
    squares = _everyones((values - _mean(values, group)).square().sum()[None], group)[0]
    return squares / max(count - 1, 1)


def _mean(values: Tensor, group: Group) -> Tensor:
    """The mean over all workers, held constant."""
    total, count = _everyones(torch.stack([values.detach().sum(), values.new_tensor(len(values))]), group)
    return total / count.clamp(min=1)


def _class_variance(values: Tensor, labels: Tensor, classes: int, group: Group) -> Tensor:
    own = torch.zeros(classes, 2, dtype=values.dtype, device=values.device)
    own = own.index_add(0, labels, torch.stack([values, torch.ones_like(values)], dim=1))
    total, count = _everyones(own.reshape(-1), group).reshape(classes, 2).unbind(dim=1)
    means = (total / count.clamp(min=1))[count > 0]
    return means.var(unbiased=True) if len(means) > 1 else values.sum() * 0.0


def _everyones(sums: Tensor, group: Group) -> Tensor:
    """Sums [S] over all workers; the gradient is by this worker's own terms."""
    if group.world == 1:
        return sums
    total = sums.new_tensor([group.mean(value) * group.world for value in sums.detach().tolist()])
    return sums + (total - sums.detach())


def _weighed(value: Tensor, count: int, group: Group) -> Tensor:
    """The same value, its gradient divided by this worker's weight in the group's average: its share of the records."""
    if group.world == 1:
        return value
    everyone = group.mean(count) * group.world
    return value.detach() + (value - value.detach()) * (everyone / count)
