"""A multilayer perceptron for feature vectors; images are flattened."""

import itertools
import math
from collections.abc import Sequence

from torch import nn

from raymia.models.checks import positive_ints


def mlp(input_shape: tuple[int, ...], classes: int, *, hidden: Sequence[int] = (256, 128)) -> nn.Module:
    """Linear layers with ReLU between them. hidden: units of each hidden layer; none makes it linear."""
    widths = (math.prod(input_shape), *positive_ints("mlp", "hidden", hidden))
    layers: list[nn.Module] = [nn.Flatten()]
    for units_in, units in itertools.pairwise(widths):
        layers += [nn.Linear(units_in, units), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
