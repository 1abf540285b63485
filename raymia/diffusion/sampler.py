"""Drawing images from a denoiser: ancestral, DDIM or DPM-Solver++, with classifier-free guidance."""

import warnings
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from numpy.typing import NDArray
from torch import Tensor

from raymia.config import DiffusionConfig
from raymia.diffusion.denoiser import Denoiser, as_images, computing, placed
from raymia.diffusion.noise import ForwardProcess, NoiseSchedule, NoiseStreams
from raymia.errors import InputError

_BATCH = 256

# All three are steps of one family (Lu et al. 2022, DPM-Solver++), which the scheduler takes over any timesteps and
# with any noise. Its stochastic first-order step is the ancestral one with variance β̃_t, its first-order step is DDIM
# with η = 0. diffusers' own classes for those two draw noise by themselves, and know only timesteps that divide T.
_STEPS = {"ancestral": ("sde-dpmsolver++", 1), "ddim": ("dpmsolver++", 1), "dpm_solver++": ("dpmsolver++", 2)}


class Sampler:
    """Draws images from a denoiser.

    denoiser: taken over, in eval mode. config: its sampler, sampler_steps (ancestral goes through all timesteps,
    whatever is set), clip, and the forward process. guidance: w of Ho & Salimans 2022, eq. 6: ε̂ = (1 + w) ε(x, c) -
    w ε(x, ∅); 0 is the plain conditional model. seed: of the images' noise. precision: `fp32` or `bf16`, what the
    network computes in. Raises InputError for guidance of a denoiser without labels.

    evaluations: how often the network is evaluated for an image; a guided step takes two, made in one pass.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        config: DiffusionConfig,
        guidance: float,
        seed: int,
        device: torch.device,
        precision: str = "fp32",
    ) -> None:
        if guidance and not denoiser.conditional:
            raise InputError(
                f"diffusion.guidance is {guidance}, and this denoiser knows no labels: "
                "set it to 0, or diffusion.conditional to true"
            )
        self._denoiser = placed(denoiser, device).eval()
        self._config = config
        self._guidance = guidance
        self._seed = seed
        self._device = device
        self._precision = precision
        self._schedule = NoiseSchedule.of(config)
        self._process = ForwardProcess(self._schedule, device)
        count = config.timesteps if config.sampler == "ancestral" else config.sampler_steps
        self._timesteps: list[int] = self._schedule.descent(count).tolist()
        self.evaluations = len(self._timesteps) * (2 if guidance else 1)

    def sample(self, ids: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8[n, H, W, C]: the images of these numbers, int64[n], each of its label, int64[n].

        An image's noise depends on the seed and its number alone. The same ids in the same order give the same bytes
        on the same kind of CPU; in other batches an image may differ by rounding.
        """
        channels, height, width = self._denoiser.input_shape
        images = np.empty((len(ids), height, width, channels), dtype=np.uint8)
        with torch.no_grad(), computing(self._precision, self._device):
            for start in range(0, len(ids), _BATCH):
                part = slice(start, start + _BATCH)
                drawn = as_images(self._draw(ids[part], labels[part]))
                images[part] = drawn.permute(0, 2, 3, 1).cpu().numpy()
        return images

    def _draw(self, ids: NDArray[np.int64], labels: NDArray[np.int64]) -> Tensor:
        """float32[B, C, H, W] by the reverse process, not yet clipped."""
        streams = NoiseStreams(self._seed, "image", ids.tolist(), self._denoiser.input_shape)
        conditions = torch.from_numpy(np.array(labels)).to(self._device)
        scheduler = self._scheduler()
        noisy = streams.draw(self._device)
        for timestep in self._timesteps:
            times = torch.full((len(ids),), timestep, device=self._device)
            clean = self._process.clean(noisy, times, self._noise(noisy, times, conditions))
            if self._config.clip:
                clean = clean.clamp(-1.0, 1.0)
            fresh = streams.draw(self._device) if self._config.sampler == "ancestral" else None
            noisy = scheduler.step(clean, timestep, noisy, variance_noise=fresh, return_dict=False)[0]
        return noisy

    def _noise(self, noisy: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """The guided prediction of the noise in a batch."""
        if not self._guidance:
            predicted: Tensor = self._denoiser(noisy, times, labels)
            return predicted
        nobody = torch.full_like(labels, self._denoiser.null_label)
        pair = self._denoiser(torch.cat([noisy, noisy]), torch.cat([times, times]), torch.cat([labels, nobody]))
        conditional, unconditional = pair.chunk(2)
        return (1 + self._guidance) * conditional - self._guidance * unconditional

    def _scheduler(self) -> Any:
        """A fresh one: it remembers its last steps."""
        algorithm, order = _STEPS[self._config.sampler]
        scheduler = DPMSolverMultistepScheduler(
            num_train_timesteps=len(self._schedule),
            trained_betas=self._schedule.betas,
            algorithm_type=algorithm,
            solver_order=order,
            prediction_type="sample",
            lower_order_final=True,
            final_sigmas_type="zero",
        )
        with warnings.catch_warnings():
            # diffusers 0.42 makes numpy arrays of tensors in a way that numpy 2 warns of (November 2026).
            warnings.simplefilter("ignore", DeprecationWarning)
            scheduler.set_timesteps(timesteps=self._timesteps)
        return scheduler
