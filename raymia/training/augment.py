"""Random changes of training images, on whole batches, drawn from the run's own stream."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

PADDING = 4


def augment(images: Tensor, kind: str, rng: np.random.Generator) -> Tensor:
    """Flip half of the images left-right (`flip`), and shift each by up to 4 pixels over zeros (`crop_flip`).

    images: float[B, channels, H, W]; returns the same shape.
    """
    if kind == "none":
        return images
    flips = torch.from_numpy(rng.random(len(images)) < 0.5).to(images.device)
    images = torch.where(flips[:, None, None, None], images.flip(3), images)
    return _shift(images, rng) if kind == "crop_flip" else images


def _shift(images: Tensor, rng: np.random.Generator) -> Tensor:
    count, _, height, width = images.shape
    padded = functional.pad(images, (PADDING,) * 4)
    offsets = torch.from_numpy(rng.integers(0, 2 * PADDING + 1, size=(2, count))).to(images.device)
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)
    columns = offsets[1][:, None] + torch.arange(width, device=images.device)
    picked = torch.arange(count, device=images.device)[:, None, None]
    return padded[picked, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
