"""The forward process, and noise with a stream an image."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.config import DiffusionConfig
from raymia.diffusion.noise import ForwardProcess, NoiseSchedule, NoiseStreams

CPU = torch.device("cpu")
SHAPE = (2, 4, 3)


def schedule(**changes: Any) -> NoiseSchedule:
    values: dict[str, Any] = {"sampler_steps": 2}
    return NoiseSchedule.of(DiffusionConfig(**(values | changes)))


@pytest.mark.parametrize(
    ("timesteps", "beta_end", "last", "half"), [(500, 0.028, 8.3209e-4, 155), (1000, 0.02, 4.0358e-5, 259)]
)
def test_linear_schedules_of_the_paper(timesteps: int, beta_end: float, last: float, half: int) -> None:
    alphas_cumprod = schedule(timesteps=timesteps, beta_end=beta_end).alphas_cumprod
    assert alphas_cumprod.dtype == np.float64
    assert alphas_cumprod[-1] == pytest.approx(last, rel=5e-5)
    assert int(np.argmax(alphas_cumprod < 0.5)) == half


def test_the_cosine_schedule_is_its_formula_as_far_as_the_largest_step_lets_it() -> None:
    found = schedule(timesteps=100, noise_schedule="cosine")
    times = np.arange(101) / 100
    kept = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(found.alphas_cumprod[:-1], (kept / kept[0])[1:-1], rtol=1e-9)
    assert found.betas[-1] == 0.999
    assert found.betas[:-1].max() < 0.999


schedules = st.builds(
    schedule,
    timesteps=st.integers(2, 1200),
    noise_schedule=st.sampled_from(["linear", "cosine"]),
    beta_end=st.floats(0.001, 0.05),
)


@given(found=schedules)
def test_a_schedule_only_loses_signal(found: NoiseSchedule) -> None:
    assert len(found) == len(found.alphas_cumprod)
    assert 0 < found.alphas_cumprod[-1] < found.alphas_cumprod[0] < 1
    assert (np.diff(found.alphas_cumprod) < 0).all()
    ratio = np.sqrt(found.alphas_cumprod / (1 - found.alphas_cumprod))
    np.testing.assert_allclose(np.exp(found.log_ratio), ratio, rtol=1e-9)


@given(found=schedules, count=st.integers(1, 1200))
def test_a_descent_takes_each_timestep_once_and_slows_down(found: NoiseSchedule, count: int) -> None:
    steps = found.descent(count)
    usable = len(found.descent(len(found)))
    assert steps.dtype == np.int64
    assert len(steps) == min(count, usable)
    assert steps[0] == usable - 1
    assert steps[-1] >= 0
    gaps = -np.diff(steps)
    assert (gaps >= 1).all()
    assert (np.diff(gaps) <= 1).all()  # only rounding lets a gap grow


def test_descents_by_hand() -> None:
    np.testing.assert_array_equal(schedule().descent(1000), np.arange(999, -1, -1))
    np.testing.assert_array_equal(schedule().descent(4), [999, 562, 250, 62])
    np.testing.assert_array_equal(schedule(timesteps=10, beta_end=0.9).descent(7)[-4:], [3, 2, 1, 0])


def test_a_descent_starts_where_some_signal_is_left() -> None:
    cosine = schedule(noise_schedule="cosine")
    first = int(cosine.descent(1000)[0])
    assert cosine.log_ratio[first] >= -5.1 > cosine.log_ratio[first + 1]


def test_noise_is_added_and_taken_away_as_the_schedule_says() -> None:
    found = schedule()
    process = ForwardProcess(found, CPU)
    clean, noise = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.ones(3, *SHAPE)
    timesteps = torch.tensor([0, 259, 999])
    noisy = process.noisy(clean, timesteps, noise)
    assert noisy.dtype == torch.float32
    for row, timestep in enumerate(timesteps.tolist()):
        kept = found.alphas_cumprod[timestep]
        expected = np.sqrt(kept) * clean[row].numpy() + np.sqrt(1 - kept)
        np.testing.assert_allclose(noisy[row].numpy(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(process.clean(noisy, timesteps, noise), clean, rtol=1e-3, atol=1e-4)


def drawn(numbers: list[int], times: int = 2, seed: int = 0, name: str = "image") -> NDArray[np.float32]:
    """float32[times, B, C, H, W]."""
    streams = NoiseStreams(seed, name, numbers, SHAPE)
    return np.stack([streams.draw(CPU).numpy() for _ in range(times)])


@given(numbers=st.lists(st.integers(0, 2**40), min_size=1, max_size=5, unique=True), seed=st.integers(0, 2**40))
def test_an_images_noise_does_not_depend_on_its_batch(numbers: list[int], seed: int) -> None:
    together = drawn(numbers, seed=seed)
    assert together.shape == (2, len(numbers), *SHAPE)
    for row, number in enumerate(numbers):
        np.testing.assert_array_equal(together[:, row], drawn([number], seed=seed)[:, 0])


def test_noise_differs_by_seed_purpose_number_and_time() -> None:
    seen = [drawn([7]), drawn([8]), drawn([7], seed=1), drawn([7], name="record")]
    values = np.concatenate([one.reshape(2, -1) for one in seen])
    assert len(np.unique(values)) == values.size


def test_noise_is_standard_normal() -> None:
    values = drawn(list(range(500)), times=4)
    # 48,000 values: the mean's deviation is 0.0046, the variance's 0.0065.
    assert abs(values.mean()) < 0.02
    assert abs(values.var() - 1) < 0.03
    correlation = np.corrcoef(values.reshape(4, -1))
    assert np.abs(correlation - np.eye(4)).max() < 0.05
