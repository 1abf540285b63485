"""The forward process: how much of an image and how much noise each timestep holds. Noise with a stream an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raymia.config import DiffusionConfig
from raymia.seeds import generator

_COSINE_OFFSET = 0.008
_COSINE_LARGEST_BETA = 0.999
# An image under more noise than this (a signal of 0.6% of it) cannot be told from noise, and dividing by so small a
# signal would only magnify the network's errors. The linear schedule of T = 1000 ends just above it.
_LOWEST_LOG_RATIO = -5.1


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """q(x_t | x_0) = N(√ᾱ_t x_0, (1 - ᾱ_t) I) for t = 0 … T-1 (Ho et al. 2020, eq. 4).

    betas: float64[T], the variance that each step adds.
    """

    betas: NDArray[np.float64]

    @classmethod
    def of(cls, config: DiffusionConfig) -> "NoiseSchedule":
        """The linear schedule of Ho et al. 2020, or the cosine one of Nichol & Dhariwal 2021, eq. 17."""
        if config.noise_schedule == "linear":
            return cls(np.linspace(config.beta_start, config.beta_end, config.timesteps))
        progress = np.arange(config.timesteps + 1) / config.timesteps
        kept = np.cos((progress + _COSINE_OFFSET) / (1 + _COSINE_OFFSET) * np.pi / 2) ** 2
        return cls(np.minimum(1 - kept[1:] / kept[:-1], _COSINE_LARGEST_BETA))

    def __len__(self) -> int:
        return len(self.betas)

    @cached_property
    def alphas_cumprod(self) -> NDArray[np.float64]:
        """ᾱ float64[T]: the share of the variance that is still the image's."""
        return np.cumprod(1 - self.betas, dtype=np.float64)

    @cached_property
    def log_ratio(self) -> NDArray[np.float64]:
        """λ float64[T] = log(√ᾱ / √(1 - ᾱ)), falling."""
        log_ratio: NDArray[np.float64] = 0.5 * (np.log(self.alphas_cumprod) - np.log1p(-self.alphas_cumprod))
        return log_ratio

    def descent(self, count: int) -> NDArray[np.int64]:
        """int64[count]: a sampler's timesteps, falling, each once: denser the less noise is left, as squares are.

        They start at the noisiest timestep that still holds some signal. The quadratic spacing of Song et al. 2021,
        appendix D.2; fewer than `count` where there are not so many timesteps.
        """
        usable = max(1, int((self.log_ratio >= _LOWEST_LOG_RATIO).sum()))
        count = min(count, usable)
        numbers = np.arange(1, count + 1)
        squares = np.rint((usable - 1) * (numbers / count) ** 2).astype(np.int64)
        # Small squares round to the same timestep: the next free ones are taken.
        return np.maximum(squares, numbers - 1)[::-1]


class ForwardProcess:
    """A schedule's constants on a device, in float32. Images and noise: float[B, C, H, W]; timesteps: int64[B]."""

    def __init__(self, schedule: NoiseSchedule, device: torch.device) -> None:
        self._signal, self._noise = (
            torch.from_numpy(np.sqrt(values)).float().to(device)
            for values in (schedule.alphas_cumprod, 1 - schedule.alphas_cumprod)
        )

    def noisy(self, clean: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) ε."""
        return self._at(self._signal, timesteps) * clean + self._at(self._noise, timesteps) * noise

    def clean(self, noisy: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """x̂_0 = (x_t - √(1 - ᾱ_t) ε̂) / √ᾱ_t."""
        return (noisy - self._at(self._noise, timesteps) * noise) / self._at(self._signal, timesteps)

    @staticmethod
    def _at(values: Tensor, timesteps: Tensor) -> Tensor:
        return values[timesteps][:, None, None, None]


class NoiseStreams:
    """Standard normal noise for several images, each with a stream of its own.

    So an image's noise depends on its number, and not on the images that share its batch. seed, name, numbers: stream
    i is named (seed, name, numbers[i]). shape: (C, H, W).
    """

    def __init__(self, seed: int, name: str, numbers: Sequence[int], shape: tuple[int, int, int]) -> None:
        # Not torch's generators: on a CPU they keep 32 bits of a seed, and of a million images some would be twins.
        self._streams = [generator(seed, name, int(number)) for number in numbers]
        self._shape = (len(numbers), *shape)

    def draw(self, device: torch.device) -> Tensor:
        """The next noise of every stream: float32[B, C, H, W]."""
        noise = np.empty(self._shape, dtype=np.float32)
        for stream, target in zip(self._streams, noise, strict=True):
            stream.standard_normal(out=target, dtype=np.float32)
        return torch.from_numpy(noise).to(device)
