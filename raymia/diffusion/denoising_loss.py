"""How well a denoiser finds the noise in given images: smaller on those it was trained on."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raymia.diffusion.denoiser import Denoiser, as_signal
from raymia.diffusion.noise import ForwardProcess, NoiseSchedule, NoiseStreams

_BATCH = 256


def denoising_loss(
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    timesteps: Sequence[int],
    draws: int,
    seed: int,
) -> NDArray[np.float64]:
    """float64[n]: the mean over timesteps, draws of noise and pixels of (ε - ε_θ(x_t, t, c))², larger for strangers.

    images: uint8[n, H, W, C]. labels: int64[n], used if the denoiser is conditional. draws: of noise, for each of the
    timesteps (Matsumoto et al. 2023 attack by this loss). An image's noise depends on its row and the seed, not on
    the batches. The denoiser runs in eval mode and float32.
    """
    device = next(denoiser.parameters()).device
    process = ForwardProcess(schedule, device)
    was_training = denoiser.training
    denoiser.eval()
    losses = np.empty(len(images), dtype=np.float64)
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            rows = range(start, min(start + _BATCH, len(images)))
            block = torch.from_numpy(np.ascontiguousarray(images[start : rows.stop].transpose(0, 3, 1, 2)))
            clean = as_signal(block.to(device))
            conditions = torch.from_numpy(np.array(labels[start : rows.stop])).to(device)
            streams = NoiseStreams(seed, "record", rows, denoiser.input_shape)
            total = torch.zeros(len(rows), dtype=torch.float64, device=device)
            for timestep in timesteps:
                times = torch.full((len(rows),), timestep, device=device)
                for _ in range(draws):
                    total += _errors(denoiser, process, clean, times, conditions, streams.draw(device))
            losses[start : rows.stop] = (total / (len(timesteps) * draws)).cpu().numpy()
    denoiser.train(was_training)
    return losses


def _errors(
    denoiser: Denoiser, process: ForwardProcess, clean: Tensor, times: Tensor, labels: Tensor, noise: Tensor
) -> Tensor:
    predicted = denoiser(process.noisy(clean, times, noise), times, labels)
    return (predicted - noise).square().double().mean(dim=(1, 2, 3))
