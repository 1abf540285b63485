"""A network with its input normalization inside, so that every attack budget is in the units of the data."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from raymia.errors import InputError


class Classifier(nn.Module):
    """Logits float[B, K] of inputs float[B, C, H, W] in [0, 1], or of feature vectors float[B, F].

    net: maps normalized inputs to logits. input_shape: (C, H, W) or (F,). classes: K. The buffers `mean` and `std`
    hold one value a channel or a feature (0 and 1 until `set_normalization`) and are saved with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.net = net
        self.input_shape = input_shape
        self.classes = classes
        broadcast = (input_shape[0], *(1 for _ in input_shape[1:]))
        self.register_buffer("mean", torch.zeros(broadcast))
        self.register_buffer("std", torch.ones(broadcast))

    def set_normalization(self, mean: ArrayLike, std: ArrayLike) -> None:
        """Normalize as (input - mean) / std from now on: one value a channel [C] or a feature [F], in input units.

        A constant feature (std 0) is only centered. Raises ValueError for another shape or a value that cannot be.
        """
        mean_C, std_C = (np.asarray(values, dtype=np.float64) for values in (mean, std))
        for name, values_C in (("mean", mean_C), ("std", std_C)):
            if values_C.shape != (self.input_shape[0],) or not np.isfinite(values_C).all():
                raise ValueError(f"{name} must be {self.input_shape[0]} finite values, got shape {values_C.shape}")
        if (std_C < 0).any():
            raise ValueError("std must not be negative")
        std_C = np.where(std_C == 0, 1.0, std_C)
        self.mean.copy_(torch.tensor(mean_C).reshape(self.mean.shape))
        self.std.copy_(torch.tensor(std_C).reshape(self.std.shape))

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.net((inputs - self.mean) / self.std)
        return logits


def last_linear(model: Classifier) -> nn.Linear:
    """The linear layer that gives the logits: the last one registered with K outputs. Raises InputError if none."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for layer in reversed(layers):
        if layer.out_features == model.classes:
            return layer
    raise InputError(
        f"model {type(model.net).__name__} has no linear layer with {model.classes} outputs, so dropout has no place: "
        "end the network in nn.Linear, or choose another defense"
    )
