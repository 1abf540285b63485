"""The denoiser's training: that it can stop and go on, what it refuses, and that it learns."""

import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from raymia.config import DiffusionConfig
from raymia.diffusion import train as module
from raymia.diffusion.denoiser import Denoiser, build_denoiser
from raymia.diffusion.sampler import Sampler
from raymia.diffusion.train import GeneratorPlan
from raymia.errors import DivergedError, InputError
from raymia.training.run import Alone
from tests.diffusion.denoiser_training import CPU, MemoryKeeper, Recorder, Worker, fit, install, small_plan
from tests.training.conftest import InterruptedRunError, equal_bits


@pytest.mark.parametrize(
    ("precision", "changes"),
    [("fp32", {}), ("bf16", {"ema": 0.0, "conditional": False, "decay": "constant"})],
)
def test_a_training_resumed_at_any_checkpoint_equals_an_undisturbed_one(
    precision: str, changes: dict[str, Any]
) -> None:
    plan = small_plan(precision=precision, **changes)
    undisturbed = fit(plan)
    assert undisturbed.saved == [4, 8]
    for stop in (4, 8):
        keeper = MemoryKeeper(stop_at=stop)
        with pytest.raises(InterruptedRunError):
            fit(plan, keeper)
        assert keeper.ended is None
        keeper.stop_at = None
        torch.manual_seed(stop)  # whatever the other process did to the global generator must not matter
        fit(plan, keeper)
        assert keeper.reported == [4, 8, 12], "iterations were trained twice"
        assert equal_bits(keeper.weights, undisturbed.weights)
        assert keeper.history == undisturbed.history


def test_a_crash_between_checkpoints_loses_only_what_came_after_the_last() -> None:
    plan, keeper = small_plan(), MemoryKeeper()
    with pytest.raises(InterruptedRunError):
        fit(plan, keeper, _Crashing(after=6))
    assert keeper.saved == [4]
    fit(plan, keeper)
    assert equal_bits(keeper.weights, fit(plan).weights)


class _Crashing(Alone):
    """Crashes in the middle of a stretch."""

    def __init__(self, after: int) -> None:
        self._left = after

    def wrap(self, model: nn.Module) -> nn.Module:
        model.register_forward_pre_hook(self._count)
        return model

    def _count(self, *_: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise InterruptedRunError


def test_where_checkpoints_fall_does_not_change_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small_plan()
    expected = fit(plan)
    rare = fit(small_plan(checkpoint_every=5))
    assert (rare.saved, rare.reported, len(rare.history)) == ([5, 10], [5, 10, 12], 3)
    assert equal_bits(rare.weights, expected.weights)
    monkeypatch.setattr(module, "_STRETCH", 3)
    often = fit(plan)
    assert often.reported == [3, 4, 7, 8, 11, 12]
    assert equal_bits(often.weights, expected.weights)
    np.testing.assert_allclose(often.history, expected.history, rtol=1e-12)


def test_seeds_differ_and_repeat_and_leave_everything_else_alone() -> None:
    plan = small_plan(iterations=3)
    before = hashlib.sha256(plan.images.tobytes()).hexdigest()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = fit(plan)
    assert torch.equal(torch.rand(3), expected)
    assert hashlib.sha256(plan.images.tobytes()).hexdigest() == before
    assert equal_bits(first.weights, fit(plan).weights)
    assert not equal_bits(first.weights, fit(replace(plan, seed=6)).weights)


def test_the_kept_weights_are_a_denoisers() -> None:
    plan = small_plan(iterations=3)
    keeper = fit(plan)
    assert keeper.ended == 3
    denoiser = build_denoiser(plan.config, (1, 4, 4), 3)
    denoiser.load_state_dict(keeper.weights)


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(InputError) as raised:
        fit(small_plan(count=7, batch_size=8))
    assert str(raised.value).startswith("diffusion.batch_size is 8, and a generator has only 7 images to train on: set")
    fit(small_plan(count=8, batch_size=8, iterations=1))


def test_a_batch_too_small_for_its_workers_is_refused() -> None:
    with pytest.raises(InputError, match=r"^diffusion\.batch_size is 4 for 5 workers: set it to 5 or more"):
        fit(small_plan(), group=Worker(0, 5))


@pytest.mark.parametrize(("call", "checkpoint_every"), [(1, 4), (7, 4), (7, 100), (12, 4)])
def test_a_loss_that_is_not_finite_names_its_iteration(
    call: int, checkpoint_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(Recorder(lambda now, prediction: prediction * (math.nan if now == call else 1.0)), monkeypatch)
    keeper = MemoryKeeper()
    with pytest.raises(DivergedError) as raised:
        fit(small_plan(checkpoint_every=checkpoint_every), keeper)
    message = str(raised.value)
    assert message.startswith(f"the denoiser's training diverged at iteration {call}: the loss is nan")
    assert message.endswith("lower diffusion.learning_rate")
    assert keeper.ended is None


def test_a_last_step_that_breaks_the_weights_is_noticed(recorder: Recorder) -> None:
    recorder.level.register_hook(lambda gradient: gradient * (math.nan if len(recorder.seen) == 12 else 1.0))
    keeper = MemoryKeeper()
    with pytest.raises(DivergedError, match="iteration 12: the weights are no longer finite"):
        fit(small_plan(), keeper)
    assert keeper.ended is None


def test_another_workers_divergence_stops_this_one_too(recorder: Recorder) -> None:
    class Told(Worker):
        def mean(self, value: float) -> float:
            return math.nan

    with pytest.raises(DivergedError, match="iteration 4: the loss is nan"):
        fit(small_plan(), group=Told(0, 2))


def test_a_trained_denoiser_draws_digits() -> None:
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    plan = GeneratorPlan(
        images,
        digits.target.astype(np.int64),
        10,
        DiffusionConfig(
            channels=(16, 32), attention=(), dropout=0.0, timesteps=100, beta_end=0.2, iterations=150, batch_size=32,
            learning_rate=4e-3, checkpoint_every=50, ema=0.95, sampler_steps=10,
        ),
        0,
        "fp32",
    )  # fmt: skip
    keeper = fit(plan)
    assert keeper.history[-1] < 0.6 * keeper.history[0]
    denoiser = build_denoiser(plan.config, (1, 8, 8), 10)
    untrained = build_denoiser(plan.config, (1, 8, 8), 10)
    denoiser.load_state_dict(keeper.weights)
    # Nearest class mean: chance is 10%.
    means = np.stack([images[plan.labels == label].mean(axis=0) for label in range(10)])
    labels = np.arange(60) % 10

    def agreement(denoiser: Denoiser) -> float:
        drawn = Sampler(denoiser, plan.config, 2.0, 0, CPU).sample(np.arange(60), labels)
        distances = ((drawn[:, None].astype(float) - means) ** 2).sum(axis=(2, 3, 4))
        return float((distances.argmin(axis=1) == labels).mean())

    assert agreement(denoiser) > 0.8
    assert agreement(untrained) < 0.3
