"""A user's training that only ends once as many models train at the same time as the test asks for."""

import os
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

FOLDER = "RAYMIA_TEST_RENDEZVOUS"
AT_ONCE = 2


class _Pixels(nn.Module):
    """Logits from the pixels, by fixed random weights."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        weights = torch.randn(64, 10, generator=torch.Generator().manual_seed(seed % 2**31))
        self.register_buffer("weights", weights)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = inputs.flatten(1) @ self.get_buffer("weights")
        return logits


def train(images: NDArray[np.uint8], labels: NDArray[np.int64], seed: int) -> nn.Module:
    """Wait, in the middle of a training, for another model's training."""
    folder = Path(os.environ[FOLDER])
    (folder / f"{os.getpid()}-{seed}").touch()
    deadline = time.monotonic() + 60
    while len({path.name.split("-")[0] for path in folder.iterdir()}) < AT_ONCE:
        if time.monotonic() > deadline:
            raise TimeoutError("this model trains alone")
        time.sleep(0.02)
    return _Pixels(seed)
