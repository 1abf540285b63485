"""What the loop does in an epoch: divergence, rates, normalization, shares."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor

from raymia.errors import DivergedError
from raymia.training.defense import Batch, Defense, Losses
from raymia.training.loop import input_statistics
from raymia.training.run import Run
from tests.training.conftest import MemoryKeeper, feature_rows, fit, image_rows, small_config


class _BadLoss(Defense):
    """The loss turns into `value` in one batch of epoch `epoch` (from 0)."""

    name = "bad_loss"

    def __init__(self, epoch: int, value: float) -> None:
        self.epoch, self.value, self.done = epoch, value, False

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        losses = inner()
        if run.epoch == self.epoch and not self.done:
            self.done = True
            losses.objective = losses.objective * self.value
        return losses


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("epoch", [0, 3, 5])
def test_a_loss_that_is_not_finite_ends_the_training_and_names_the_epoch(epoch: int, value: float) -> None:
    keeper = MemoryKeeper()
    with pytest.raises(DivergedError, match=rf"diverged at epoch {epoch + 1}: .*lower training\.learning_rate"):
        fit(image_rows(), small_config(checkpoint_every=2), _BadLoss(epoch, value), keeper=keeper)
    assert keeper.reported == list(range(1, epoch + 1))
    assert not keeper.snapshots
    assert all(saved <= epoch for saved in keeper.saved)


def test_too_large_a_rate_diverges() -> None:
    with pytest.raises(DivergedError, match=r"diverged at epoch \d: the loss is (nan|inf)"):
        fit(image_rows(), small_config(learning_rate=1e20, schedule="constant", warmup=0))


class _BadStep(Defense):
    """The very last step breaks a weight, which no loss sees."""

    name = "bad_step"

    def update(self, run: Run, batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
        loss = inner()
        if run.epoch == run.config.epochs - 1 and len(batch.labels) == 6:
            next(run.model.parameters()).data.view(-1)[0] = math.nan
        return loss


def test_weights_that_the_last_step_broke_are_not_kept() -> None:
    keeper = MemoryKeeper()
    with pytest.raises(DivergedError, match="diverged at epoch 6: the weights"):
        fit(image_rows(), small_config(), _BadStep(), keeper=keeper)
    assert not keeper.snapshots


class _Recorder(Defense):
    """Writes down the rate and the rows of every step."""

    name = "recorder"

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.rows: list[NDArray[np.float32]] = []

    def update(self, run: Run, batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
        self.rates.append(run.optimizer.param_groups[0]["lr"])
        self.rows.append(batch.inputs[:, 0].numpy().copy())
        return inner()


def test_the_rate_of_every_step_follows_the_schedule() -> None:
    recorder = _Recorder()
    config = small_config(epochs=4, schedule="step", milestones=(0.5, 0.75), gamma=0.1, warmup=0, learning_rate=0.5)
    fit(feature_rows(16), config, recorder)
    np.testing.assert_allclose(recorder.rates, [0.5] * 4 + [0.05] * 2 + [0.005] * 2)
    recorder = _Recorder()
    fit(feature_rows(16), config.model_copy(update={"schedule": "cosine"}), recorder)
    np.testing.assert_allclose(recorder.rates, [0.25 * (1 + math.cos(math.pi * step / 8)) for step in range(8)])


def test_every_epoch_sees_every_row_once_in_another_order() -> None:
    recorder = _Recorder()
    fit(feature_rows(22), small_config(epochs=2), recorder)
    orders = np.concatenate(recorder.rows).reshape(2, 22)
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(22))
    assert not np.array_equal(orders[0], orders[1])


class _Worker:
    """One of two workers, as far as a single process can be one."""

    world = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def wrap(self, model: torch.nn.Module) -> torch.nn.Module:
        return model

    def mean(self, value: float) -> float:
        return value


def test_two_workers_shares_are_the_batch_of_one() -> None:
    alone, shares = _Recorder(), (_Recorder(), _Recorder())
    config = small_config(epochs=2)
    fit(feature_rows(21), config, alone)
    keepers = [fit(feature_rows(21), config, shares[rank], group=_Worker(rank)) for rank in (0, 1)]
    assert len(alone.rows) == len(shares[0].rows) == len(shares[1].rows) == 6
    for whole, one, other in zip(alone.rows, shares[0].rows, shares[1].rows, strict=True):
        np.testing.assert_array_equal(np.concatenate([one, other]), whole)
        assert 0 <= len(one) - len(other) <= 1
    assert keepers[0].snapshots
    assert not keepers[1].snapshots
    assert not keepers[1].saved


def test_the_kept_history_is_the_mean_loss_of_each_epochs_batches() -> None:
    class Constant(Defense):
        name = "constant"

        def update(self, run: Run, batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
            inner()
            return torch.tensor(float(run.epoch + 1))

    assert fit(image_rows(), small_config(epochs=3), Constant()).histories[3] == [1.0, 2.0, 3.0]


def test_training_lowers_the_loss() -> None:
    history = fit(image_rows(), small_config(epochs=30)).histories[30]
    assert history[-1] < 0.25 * history[0]


def test_a_model_is_normalized_by_its_own_rows() -> None:
    rows = image_rows()
    weights = fit(rows, small_config(epochs=1)).weights(1)
    np.testing.assert_allclose(weights["mean"].ravel(), (rows.inputs / 255).mean(), rtol=1e-6)
    np.testing.assert_allclose(weights["std"].ravel(), (rows.inputs / 255).std(), rtol=1e-6)


@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))))
def test_statistics_of_images_are_exact(images: NDArray[np.uint8]) -> None:
    mean, std = input_statistics(images)
    exact = images / 255
    deviation = exact.std(axis=(0, 1, 2))
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 1, 2)), rtol=1e-6, atol=1e-9)
    constant = images.min(axis=(0, 1, 2)) == images.max(axis=(0, 1, 2))
    np.testing.assert_allclose(std, np.where(constant, 1.0, deviation), rtol=1e-5)


@given(arrays(np.float32, st.tuples(st.integers(2, 8), st.integers(1, 4)), elements=st.integers(-9, 9)))
def test_statistics_of_features_are_exact(features: NDArray[np.float32]) -> None:
    mean, std = input_statistics(features)
    exact = features.astype(np.float64)
    constant = features.min(axis=0) == features.max(axis=0)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(std, np.where(constant, 1.0, exact.std(axis=0)), rtol=1e-6)
