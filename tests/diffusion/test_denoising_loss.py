"""The denoising loss of given images."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raymia.config import DiffusionConfig
from raymia.diffusion import denoising_loss as module
from raymia.diffusion.denoiser import Denoiser, build_denoiser
from raymia.diffusion.denoising_loss import denoising_loss
from raymia.diffusion.noise import NoiseSchedule, NoiseStreams
from raymia.diffusion.train import GeneratorPlan, train_denoiser
from raymia.training.loop import State
from raymia.training.run import Alone

CPU = torch.device("cpu")
SHAPE = (2, 4, 3)
CONFIG = DiffusionConfig(channels=(8, 8), dropout=0.0, timesteps=100, beta_end=0.1)
SCHEDULE = NoiseSchedule.of(CONFIG)


class Shifted(nn.Module):
    """Predicts the noisy image itself, plus the label where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor | None, return_dict: bool) -> tuple[Tensor]:
        return (noisy if labels is None else noisy + labels[:, None, None, None],)


def pictures(count: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.uint8]:
    channels, height, width = shape
    return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("conditional", [True, False])
def test_the_loss_is_its_formula(conditional: bool) -> None:
    images, labels = pictures(5), np.array([0, 1, 2, 1, 0])
    denoiser = Denoiser(Shifted(), SHAPE, 3, conditional)
    found = denoising_loss(denoiser, SCHEDULE, images, labels, [10, 60], 3, seed=4)
    streams = NoiseStreams(4, "record", range(5), SHAPE)
    clean = (images / 127.5 - 1).transpose(0, 3, 1, 2)
    expected = np.zeros(5)
    for timestep in (10, 60):
        kept = SCHEDULE.alphas_cumprod[timestep]
        for _ in range(3):
            noise = streams.draw(CPU).double().numpy()
            predicted = np.sqrt(kept) * clean + np.sqrt(1 - kept) * noise
            predicted += conditional * labels[:, None, None, None]
            expected += ((predicted - noise) ** 2).mean(axis=(1, 2, 3)) / 6
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def small(dropout: float = 0.0) -> Denoiser:
    torch.manual_seed(0)
    return build_denoiser(CONFIG.model_copy(update={"dropout": dropout}), (1, 8, 8), 3)


def test_batches_change_nothing_and_seeds_do(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = pictures(7, (1, 8, 8)), np.arange(7) % 3
    denoiser = small()
    whole = denoising_loss(denoiser, SCHEDULE, images, labels, [20], 2, seed=0)
    np.testing.assert_array_equal(whole, denoising_loss(denoiser, SCHEDULE, images, labels, [20], 2, seed=0))
    assert not np.allclose(whole, denoising_loss(denoiser, SCHEDULE, images, labels, [20], 2, seed=1), rtol=1e-4)
    monkeypatch.setattr(module, "_BATCH", 3)
    np.testing.assert_allclose(denoising_loss(denoiser, SCHEDULE, images, labels, [20], 2, seed=0), whole, rtol=1e-5)
    assert denoising_loss(denoiser, SCHEDULE, images[:0], labels[:0], [20], 2, seed=0).shape == (0,)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_is_left_as_it_was(training: bool) -> None:
    images, labels = pictures(3, (1, 8, 8)), np.zeros(3, dtype=np.int64)
    denoiser = small(dropout=0.5).train(training)
    found = denoising_loss(denoiser, SCHEDULE, images, labels, [20], 1, seed=0)
    np.testing.assert_array_equal(found, denoising_loss(small(), SCHEDULE, images, labels, [20], 1, seed=0))
    assert denoiser.training == training


def test_read_only_records_are_read() -> None:
    images, labels = pictures(3), np.zeros(3, dtype=np.int64)
    images.flags.writeable = labels.flags.writeable = False
    denoising_loss(Denoiser(Shifted(), SHAPE, 3, True), SCHEDULE, images, labels, [20], 1, seed=0)


class _Weights:
    """Keeps the final weights only."""

    def __init__(self) -> None:
        self.kept: State = {}

    def load(self) -> None:
        return None

    def save(self, state: State) -> None:
        raise AssertionError("no checkpoint was due")

    def snapshot(self, epoch: int, weights: State, history: list[float]) -> None:
        self.kept = weights

    def report(self, epoch: int) -> None:
        return None


def test_images_that_trained_the_denoiser_lose_less_than_strangers() -> None:
    images = pictures(16, (1, 8, 8))
    labels = np.zeros(16, dtype=np.int64)
    config = CONFIG.model_copy(
        update={
            "channels": (16, 16),
            "attention": (),
            "iterations": 100,
            "learning_rate": 0.01,
            "batch_size": 8,
            "ema": 0.0,
        }
    )
    keeper = _Weights()
    train_denoiser(GeneratorPlan(images[:8], labels[:8], 1, config, 0, "fp32"), keeper, Alone(), CPU)
    denoiser = build_denoiser(config, (1, 8, 8), 1)
    denoiser.load_state_dict(keeper.kept)
    losses = denoising_loss(denoiser, SCHEDULE, images, labels, [20, 30], 4, seed=0)
    assert losses[:8].mean() < 0.9 * losses[8:].mean()
