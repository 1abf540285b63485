"""A model that leaves the id of each Ray node that trains it."""

import os
from pathlib import Path

import ray
import torch
from torch import nn

FOLDER = "RAYMIA_TEST_TRAINED_ON"


class _Marked(nn.Module):
    """One linear layer."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)
        self._marked = False

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and not self._marked:
            self._marked = True
            Path(os.environ[FOLDER], ray.get_runtime_context().get_node_id()).touch()
        logits: torch.Tensor = self.linear(inputs.flatten(1))
        return logits


def model(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """See the class."""
    return _Marked(int(torch.tensor(input_shape).prod()), classes)
