"""DP-SGD by Opacus (Abadi et al. 2016, arXiv 1607.00133): the one defense here that comes with a proof.

Every step draws its records independently (Poisson sampling), clips each record's gradient and adds Gaussian noise, so
that adding or removing one record changes the distribution of the released model by no more than (ε, δ) allows.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from raymia.errors import InputError
from raymia.models import Classifier
from raymia.privacy import (
    Guarantee,
    default_delta,
    leave_gradients,
    noise_for,
    per_sample_network,
    spent,
    without_coupling,
)
from raymia.privacy.lazy_opacus import opacus_module
from raymia.seeds import derive_seed, generator
from raymia.training.defense import Batch, Composed, Defense, Stage
from raymia.training.run import Run, Sampler

_HYPERPARAMETERS = (
    "epsilon",
    "noise_multiplier",
    "delta",
    "max_grad_norm",
    "batch_size",
    "learning_rate",
    "physical_batch",
)


@dataclass(frozen=True)
class DPSGD(Defense):
    """Step along `(Σ clip(g_i, C) + N(0, σ²C² I)) / B̄`, each record in a step with probability B̄/n.

    Give one of epsilon, spent by all of the study's epochs (Opacus' accountant finds σ), or noise_multiplier (σ; 0 for
    no noise and no guarantee). delta: None for the largest power of ten below 1/n. max_grad_norm: C, over all weights.
    batch_size: B̄, the expected one; learning_rate: DP-SGD likes both large; None for the study's. An epoch has as many
    steps as a plain one. physical_batch: records whose gradients are held at once; changes rounding only.

    So that nothing else of the members reaches the weights: batch normalization becomes group normalization, images are
    normalized as (x - 0.5) / 0.25 and features not at all (scale them by what is public), and precision is fp32, since
    bf16 could not tell a norm from the bound. Augmentation changes each record by itself, one view a step. One worker a
    model. A model that early stopping releases has spent less.

    Not covered: what is kept beside the weights, as the curve of training losses; the choice among settings; an
    attacker who knows the study's seed, which the noise comes from.
    """

    epsilon: Annotated[float, Field(gt=0)] | None = None
    noise_multiplier: Annotated[float, Field(ge=0)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    batch_size: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    physical_batch: Annotated[int, Field(ge=1)] = 64

    name: ClassVar[str] = "dp_sgd"
    version: ClassVar[int] = 2
    stages: ClassVar[Mapping[str, Stage]] = dict.fromkeys(_HYPERPARAMETERS, Stage.TRAIN)
    per_sample: ClassVar[bool] = True
    demands_per_sample: ClassVar[bool] = True
    sole: ClassVar[frozenset[str]] = frozenset({"update"})

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.epsilon is None) == (self.noise_multiplier is None):
            raise ValueError("give exactly one of epsilon and noise_multiplier")
        return self

    def sampling(self, records: int, batch_size: int) -> tuple[float, int]:
        """The probability with which each record enters a step, and the steps of an epoch. batch_size: the study's."""
        expected = min(self.batch_size or batch_size, records)
        return expected / records, math.ceil(records / expected)

    def noise(self, records: int, batch_size: int, epochs: int) -> float:
        """The noise multiplier σ. batch_size, epochs: the study's. Raises InputError for an ε that no noise gives."""
        if self.noise_multiplier is not None:
            return self.noise_multiplier
        assert self.epsilon is not None
        rate, steps = self.sampling(records, batch_size)
        return noise_for(self.epsilon, rate, steps * epochs, self.delta or default_delta(records))

    def architecture(self, model: Classifier) -> Classifier:
        return without_coupling(model)

    def prepare(self, run: Run) -> None:
        if run.group.world > 1:
            raise InputError("dp_sgd: trains with one worker a model; set engine.workers_per_model to 1")
        rate, steps = self.sampling(run.rows, run.config.batch_size)
        noise = self.noise(run.rows, run.config.batch_size, run.config.epochs)
        run.config = run.config.model_copy(update={"precision": "fp32"})
        _normalize_by_constants(run.model)
        run.network = per_sample_network(run.model)
        run.sampler = _poisson(run.rows, rate, steps, run.seed)
        if self.learning_rate is not None:
            for group in run.optimizer.param_groups:
                group["lr"] = self.learning_rate
        run.optimizer = opacus_module("optimizers").DPOptimizer(
            run.optimizer,
            noise_multiplier=noise,
            max_grad_norm=self.max_grad_norm,
            expected_batch_size=rate * run.rows,
            generator=torch.Generator(run.device),
        )

    def update(self, run: Run, batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
        """One step; the loss is 0 for a batch that drew nobody, which still gets its noise."""
        # The noise depends on the step's number alone: a resumed training adds what an undisturbed one would.
        step = run.state.get(self.name, 0)
        run.state[self.name] = step + 1
        optimizer: Any = run.optimizer
        optimizer.generator.manual_seed(noise_seed(run.seed, step))
        total = torch.zeros((), device=run.device)
        parts = list(_parts(batch, self.physical_batch))
        for number, part in enumerate(parts, start=1):
            optimizer.zero_grad(set_to_none=True)
            total += _accumulated(run, part)
            optimizer.signal_skip_step(number < len(parts))
            optimizer.step()
        return total / max(len(batch.labels), 1)


def noise_seed(seed: int, step: int) -> int:
    """Of a step's noise; seed: the training's. Torch goes by 32 bits of it alone, and no two steps may have the same.

    Seeds drawn at random would: of 23,600 steps two share their noise with a chance of 6%, and the proof wants none to.
    """
    return (derive_seed(seed, "noise") + step) % 2**32


def spent_epsilon(
    defense: Composed, records: int, batch_size: int, epochs: int, delta: float | None = None
) -> Guarantee | None:
    """What a model released under these defenses spends of its members' privacy; None without DP-SGD.

    records: its members. batch_size, epochs: the study's; the model is released after `defense.select(epochs)`.
    delta: where DP-SGD names none itself (None: `default_delta` of its members).
    """
    for part in defense.parts:
        if isinstance(part, DPSGD):
            rate, steps = part.sampling(records, batch_size)
            noise = part.noise(records, batch_size, epochs)
            at_most = part.delta or delta or default_delta(records)
            return spent(noise, rate, steps * defense.select(epochs), at_most)
    return None


def _normalize_by_constants(model: Classifier) -> None:
    """The members' own statistics would be released with the weights, without noise."""
    size = model.input_shape[0]
    mean, std = (0.5, 0.25) if len(model.input_shape) == 3 else (0.0, 1.0)
    model.set_normalization(np.full(size, mean), np.full(size, std))


def _poisson(rows: int, rate: float, steps: int, seed: int) -> Sampler:
    """Every row enters every batch with probability `rate`, whatever else does."""

    def batches(epoch: int) -> Iterator[NDArray[np.int64]]:
        rng = generator(seed, "poisson", epoch)
        for _ in range(steps):
            yield np.flatnonzero(rng.random(rows) < rate)

    return batches


def _parts(batch: Batch, most: int) -> Iterator[Batch]:
    """The batch in parts of at most so many records; an empty batch is one part."""
    for start in range(0, max(len(batch.labels), 1), most):
        stop = start + most
        yield Batch(batch.inputs[start:stop].contiguous(), batch.labels[start:stop], batch.targets[start:stop])


def _accumulated(run: Run, part: Batch) -> Tensor:
    """Leave each record's gradient in the weights' `grad_sample`; returns the sum of the losses."""
    if not len(part.labels):
        for weight in run.model.parameters():
            weight.grad_sample = weight.new_zeros((0, *weight.shape))  # type: ignore[attr-defined]
        return torch.zeros((), device=run.device)
    loss = run.losses(part).total
    leave_gradients(loss)
    return loss.detach() * len(part.labels)
