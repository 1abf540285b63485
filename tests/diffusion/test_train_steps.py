"""What each step of the denoiser's training sees, minimizes and keeps."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from raymia.diffusion.train import rate_factor
from tests.diffusion.denoiser_training import Recorder, fit, install, small_plan


def test_every_record_is_seen_equally_often_in_a_new_order(recorder: Recorder) -> None:
    plan = replace(small_plan(iterations=11, null_probability=0.0), labels=np.arange(11), classes=11)
    fit(plan)
    rows = torch.cat([seen.labels for seen in recorder.seen]).numpy().reshape(4, 11)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(11), (4, 1)))
    assert len(np.unique(rows, axis=0)) == 4


def test_labels_are_left_out_one_by_one_as_often_as_asked(recorder: Recorder) -> None:
    fit(small_plan(count=60, batch_size=50, iterations=40, null_probability=0.3))
    dropped = torch.stack([seen.labels for seen in recorder.seen]).numpy() == 3
    # 2,000 draws: a deviation of 0.01; of a batch's mean 0.065.
    assert abs(dropped.mean() - 0.3) < 0.04
    assert 0.03 < dropped.mean(axis=1).std() < 0.1


def test_timesteps_are_uniform_and_differ_within_a_batch(recorder: Recorder) -> None:
    fit(small_plan(count=60, batch_size=50, iterations=40))
    timesteps = torch.stack([seen.timesteps for seen in recorder.seen]).numpy()
    counts = np.bincount(timesteps.ravel(), minlength=40)
    assert len(counts) == 40
    assert 20 < counts.min() <= counts.max() < 90  # 50 each, deviation 7
    assert (timesteps.std(axis=1) > 5).all()


@pytest.mark.parametrize("flip", [True, False])
def test_images_come_in_minus_one_to_one_and_flipped_if_asked(recorder: Recorder, flip: bool) -> None:
    """Almost without noise."""
    plan = small_plan(iterations=10, flip=flip, beta_start=1e-9, beta_end=2e-9, null_probability=0.0)
    plan = replace(plan, labels=np.arange(11), classes=11)
    fit(plan)
    mirrored = []
    for seen in recorder.seen:
        for noisy, label in zip(seen.noisy.numpy(), seen.labels.tolist(), strict=True):
            image = plan.images[label, ..., 0] / 127.5 - 1
            mirrored.append(np.allclose(noisy[0], image[:, ::-1], atol=0.01))
            assert mirrored[-1] or np.allclose(noisy[0], image, atol=0.01)
    assert (8 < sum(mirrored) < 32) if flip else not any(mirrored)


def test_the_loss_is_the_mean_square_over_pixels_and_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pure noise: the noisy image is the noise, up to a signal of 3%."""
    recorder = install(Recorder(), monkeypatch)
    plan = small_plan(iterations=6, checkpoint_every=4, beta_start=0.999, beta_end=0.9991, learning_rate=1e-30)
    keeper = fit(plan)
    losses = [float(seen.noisy.square().mean()) for seen in recorder.seen]
    np.testing.assert_allclose(keeper.history, [np.mean(losses[:4]), np.mean(losses[4:])], rtol=0.03)
    assert abs(np.mean(losses) - 1) < 0.3


@contextmanager
def at_each_step(look: Callable[[torch.optim.Optimizer], None], after: bool) -> Iterator[None]:
    """Look at the optimizer before or after each of its steps."""
    register = register_optimizer_step_post_hook if after else register_optimizer_step_pre_hook
    handle = register(lambda optimizer, args, kwargs: look(optimizer))
    try:
        yield
    finally:
        handle.remove()


def test_gradients_are_clipped_to_their_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    def norms(clip: float) -> list[float]:
        found: list[float] = []

        def look(optimizer: torch.optim.Optimizer) -> None:
            gradients = [values.grad for group in optimizer.param_groups for values in group["params"]]
            found.append(math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients)))

        with at_each_step(look, after=False):
            fit(small_plan(iterations=4, gradient_clip=clip))
        return found

    free = norms(1e9)
    assert min(free) > 0.1
    np.testing.assert_allclose(norms(0.1), [0.1] * 4, rtol=1e-4)


@pytest.mark.parametrize("decay", [0.5, 0.0])
def test_the_kept_weights_are_the_moving_average(recorder: Recorder, decay: float) -> None:
    levels: list[float] = []
    with at_each_step(lambda optimizer: levels.append(recorder.level.item()), after=True):
        keeper = fit(small_plan(iterations=30, ema=decay, learning_rate=0.1))
    average = levels[0]
    for step, level in enumerate(levels[1:], start=1):
        share = min(decay, (1 + step) / (10 + step))
        average = share * average + (1 - share) * level
    assert len(set(levels)) == 30
    assert keeper.weights["net.level"].item() == pytest.approx(average if decay else levels[-1], rel=1e-4)


def test_rates_follow_the_schedule(recorder: Recorder) -> None:
    rates: list[float] = []
    plan = small_plan(iterations=20, warmup=0.2, learning_rate=0.5)
    with at_each_step(lambda optimizer: rates.append(optimizer.param_groups[0]["lr"]), after=False):
        fit(plan)
    np.testing.assert_allclose(rates[:5], [0.1, 0.2, 0.3, 0.4, 0.5], rtol=1e-12)
    assert rates[12] == pytest.approx(0.25)
    assert 0 < rates[-1] < 0.01
    assert (np.diff(rates[4:]) < 0).all()
    constant = plan.config.model_copy(update={"decay": "constant", "warmup": 0.0})
    assert {rate_factor(constant, iteration) for iteration in range(20)} == {1.0}
