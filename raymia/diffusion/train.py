"""Training a denoiser, from iteration to iteration, so that it can stop and go on anywhere."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from diffusers.training_utils import EMAModel
from numpy.typing import NDArray
from torch import Tensor, nn

from raymia.config import DiffusionConfig
from raymia.diffusion.denoiser import as_signal, build_denoiser, computing, placed
from raymia.diffusion.noise import ForwardProcess, NoiseSchedule
from raymia.errors import DivergedError, InputError
from raymia.seeds import derive_seed, generator
from raymia.training.loop import Keeper, State
from raymia.training.run import Group

# Losses are looked at, and progress is told, once in so many iterations: looking makes a GPU wait.
_STRETCH = 50


@dataclass(frozen=True)
class GeneratorPlan:
    """What to train: images uint8[n, H, W, C] with labels int64[n] in 0 … classes - 1, how, and from which seed.

    precision: `fp32` or `bf16`, what the network computes in.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: int
    config: DiffusionConfig
    seed: int
    precision: str


def train_denoiser(plan: GeneratorPlan, keeper: Keeper, group: Group, device: torch.device) -> None:
    """Train a denoiser and keep the weights to sample from: the moving average's, where there is one.

    Minimizes the mean of (ε - ε_θ(x_t, t, c))² over pixels and batch (Ho et al. 2020, eq. 14), leaving the label out
    of a sample now and then (Ho & Salimans 2022). The keeper counts iterations for epochs; the history holds the mean
    loss of each `checkpoint_every` iterations. The same plan gives the same weights bit for bit on the same kind of
    CPU, interrupted and resumed or not; each worker takes its share of the same batches. Raises InputError for fewer
    images than a batch, DivergedError, with the iteration, when the loss is no longer finite.
    """
    _check(plan, group)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        training = _Training(plan, group, device)
        history, done = training.resume(keeper.load())
        config, total = plan.config, 0.0
        while done < config.iterations:
            interval = done - done % config.checkpoint_every
            until = min(done + _STRETCH, interval + config.checkpoint_every, config.iterations)
            total += training.stretch(done, until)
            done = until
            if done == config.iterations or done % config.checkpoint_every == 0:
                history.append(total / (done - interval))
                total = 0.0
                training.check_weights(done)
                if group.rank == 0 and done < config.iterations:
                    keeper.save(training.state(done, history))
            keeper.report(done)
        if group.rank == 0:
            keeper.snapshot(done, training.weights(), history)


def _check(plan: GeneratorPlan, group: Group) -> None:
    batch, images = plan.config.batch_size, len(plan.images)
    if images < batch:
        raise InputError(
            f"diffusion.batch_size is {batch}, and a generator has only {images} images to train on: "
            f"set diffusion.batch_size to {images} or less, or give it more records"
        )
    if batch < group.world:
        raise InputError(f"diffusion.batch_size is {batch} for {group.world} workers: set it to {group.world} or more")


class _Training:
    """A training in progress. Every step's randomness comes from its number alone."""

    def __init__(self, plan: GeneratorPlan, group: Group, device: torch.device) -> None:
        config = plan.config
        self._plan, self._config, self._group, self._device = plan, config, group, device
        torch.manual_seed(derive_seed(plan.seed, "weights"))
        height, width, channels = plan.images.shape[1:]
        self._denoiser = placed(build_denoiser(config, (channels, height, width), plan.classes), device).train()
        self._optimizer = torch.optim.AdamW(
            self._denoiser.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self._average = EMAModel(self._denoiser.parameters(), decay=config.ema, foreach=True) if config.ema else None
        self._network: nn.Module = group.wrap(self._denoiser)
        self._process = ForwardProcess(NoiseSchedule.of(config), device)
        self._images = torch.from_numpy(plan.images).permute(0, 3, 1, 2).contiguous().to(device)
        self._labels = torch.from_numpy(plan.labels).to(device)
        self._draws = torch.Generator(device)
        self._epoch_order = lru_cache(maxsize=2)(self._permutation)
        # This worker's part of every batch, as numpy splits one.
        share = np.array_split(np.arange(config.batch_size), group.world)[group.rank]
        self._share = slice(int(share[0]), int(share[-1]) + 1)
        # The group averages gradients over workers, and shares may differ in size.
        self._weight = len(share) * group.world / config.batch_size

    def resume(self, state: State | None) -> tuple[list[float], int]:
        """Continue from a checkpoint; its history and the iterations done."""
        if state is None:
            return [], 0
        self._denoiser.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
            self._average.to(self._device)
        return list(state["history"]), int(state["iteration"])

    def state(self, done: int, history: list[float]) -> State:
        """What a checkpoint holds."""
        return {
            "iteration": done,
            "model": self._denoiser.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "history": history,
        }

    def weights(self) -> State:
        """The weights to sample from. The training ends with it."""
        if self._average is not None:
            self._average.copy_to(self._denoiser.parameters())
        return self._denoiser.state_dict()

    def stretch(self, start: int, end: int) -> float:
        """Do the iterations from `start` to `end`, not included; the sum of their losses over the group."""
        losses = torch.stack([self._step(iteration) for iteration in range(start, end)]).double().cpu()
        total = self._group.mean(float(losses.sum()))
        if not math.isfinite(total):
            bad = (~losses.isfinite()).nonzero().flatten().tolist()
            # Another worker's loss reaches this one's weights in a step: so it was the last one, if none of these.
            raise _diverged(start + bad[0] + 1 if bad else end, f"the loss is {losses[bad[0]] if bad else total}")
        return total

    def check_weights(self, done: int) -> None:
        """A loss is from before its step, so the last step's harm must be looked for."""
        if not all(bool(values.isfinite().all()) for values in self._denoiser.parameters()):
            raise _diverged(done, "the weights are no longer finite")

    def _step(self, iteration: int) -> Tensor:
        """One optimizer step on this worker's share of the batch; its part of the batch's loss."""
        torch.manual_seed(derive_seed(self._plan.seed, "dropout", iteration, self._group.rank))
        clean, labels, timesteps, noise = (values[self._share] for values in self._batch(iteration))
        noisy = self._process.noisy(clean, timesteps, noise)
        with computing(self._plan.precision, self._device):
            predicted = self._network(noisy, timesteps, labels)
        loss = (predicted - noise).square().mean() * self._weight
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._denoiser.parameters(), self._config.gradient_clip)
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = self._config.learning_rate * rate_factor(self._config, iteration)
        self._optimizer.step()
        if self._average is not None:
            self._average.step(self._denoiser.parameters())
        return loss.detach()

    def _batch(self, iteration: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The whole group's batch: clean images, labels, timesteps and noise."""
        config, draws, device = self._config, self._draws, self._device
        draws.manual_seed(derive_seed(self._plan.seed, "draws", iteration))
        rows = torch.from_numpy(self._rows(iteration)).to(device)
        clean, labels = as_signal(self._images[rows]), self._labels[rows]
        count = len(rows)
        timesteps = torch.randint(config.timesteps, (count,), generator=draws, device=device)
        noise = torch.randn(clean.shape, generator=draws, device=device)
        left_out = torch.rand(count, generator=draws, device=device) < config.null_probability
        labels = labels.masked_fill(left_out, self._denoiser.null_label)
        if config.flip:
            flipped = torch.rand(count, generator=draws, device=device) < 0.5
            clean = torch.where(flipped[:, None, None, None], clean.flip(3), clean)
        return clean, labels, timesteps, noise

    def _rows(self, iteration: int) -> NDArray[np.int64]:
        """The rows of a batch. Batches follow shuffled epochs without a gap, so every record is seen equally often."""
        count, size = len(self._images), self._config.batch_size
        epoch, start = divmod(iteration * size, count)
        rows = self._epoch_order(epoch)[start : start + size]
        return rows if len(rows) == size else np.concatenate([rows, self._epoch_order(epoch + 1)[: size - len(rows)]])

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return generator(self._plan.seed, "order", epoch).permutation(len(self._images))


def rate_factor(config: DiffusionConfig, iteration: int) -> float:
    """The factor on the learning rate: a linear warm-up over the first fraction, then constant or a cosine to 0."""
    progress, step = iteration / config.iterations, 1 / config.iterations
    if progress < config.warmup:
        return (progress + step) / (config.warmup + step)
    if config.decay == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (progress - config.warmup) / (1.0 - config.warmup)))
    return 1.0


def _diverged(iteration: int, what: str) -> DivergedError:
    return DivergedError(
        f"the denoiser's training diverged at iteration {iteration}: {what}; lower diffusion.learning_rate"
    )
