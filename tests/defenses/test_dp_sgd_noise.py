"""The noise of DP-SGD's steps: no two of a training's are the same, interrupted or not."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import raymia.defenses.dp_sgd
from raymia.defenses import DPSGD
from raymia.defenses.dp_sgd import noise_seed
from raymia.seeds import derive_seed
from tests.training.conftest import InterruptedRunError, MemoryKeeper, fit, image_rows, small_config

STEPS = 30_000
# Of seed 2's steps two would share their noise, were their seeds drawn at random by `derive_seed(2, "noise", step)`.
RUN_SEEDS = [0, 1, 2, 2**31 - 1, 2**62, derive_seed(0, "model", "target", 0)]
PRIVATE = DPSGD(noise_multiplier=1.0, batch_size=8)


def near_the_end() -> int:
    """A training's seed whose steps go past the last number of 32 bits."""
    return next(seed for seed in range(10**7) if (derive_seed(seed, "noise") % 2**32) > 2**32 - STEPS // 2)


@pytest.mark.parametrize("seed", [*RUN_SEEDS, "near the end"], ids=str)
def test_no_two_steps_of_a_training_share_their_noise(seed: Any) -> None:
    training = near_the_end() if seed == "near the end" else seed
    found = [noise_seed(training, step) for step in range(STEPS)]
    assert len({one % 2**32 for one in found}) == STEPS
    assert min(found) >= 0


def test_torch_goes_by_32_bits_which_all_of_a_seed_is() -> None:
    def draw(seed: int) -> list[float]:
        values: list[float] = torch.randn(4, generator=torch.Generator().manual_seed(seed)).tolist()
        return values

    assert draw(5) == draw(5 + 2**32)
    assert all(noise_seed(seed, step) < 2**32 for seed in RUN_SEEDS for step in (0, STEPS))


def test_trainings_begin_far_apart() -> None:
    begun = sorted(noise_seed(derive_seed(0, "model", "target", number), 0) for number in range(32))
    assert min(after - before for before, after in pairwise(begun)) > STEPS


def test_the_noise_of_steps_that_follow_each_other_is_unrelated() -> None:
    """Their seeds are neighbors: of 40 steps' 4,096 numbers each, no two look alike, and all are standard normal."""
    noise = torch.stack(
        [torch.randn(4096, generator=torch.Generator().manual_seed(noise_seed(0, step))) for step in range(40)]
    ).numpy()
    correlations = np.corrcoef(noise)[np.triu_indices(40, 1)]
    # 780 correlations of 1/64 deviation each.
    assert np.abs(correlations).max() < 4.5 / 64
    assert correlations.std() == pytest.approx(1 / 64, rel=0.1)
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert noise.mean(axis=0).std() == pytest.approx(1 / np.sqrt(40), rel=0.05)


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of every step's noise, as they are asked for."""
    found: list[int] = []

    def watched(seed: int, step: int) -> int:
        found.append(noise_seed(seed, step))
        return found[-1]

    monkeypatch.setattr(raymia.defenses.dp_sgd, "noise_seed", watched)
    return found


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_resumed_training_adds_the_noise_of_an_undisturbed_one(seeds: list[int], stop: int) -> None:
    config = small_config(epochs=5)
    fit(image_rows(), config, PRIVATE)
    whole = list(seeds)
    assert len(whole) == len(set(whole)) == 5 * 3
    seeds.clear()
    keeper = MemoryKeeper(stop_at=stop)
    with pytest.raises(InterruptedRunError):
        fit(image_rows(), config, PRIVATE, keeper=keeper)
    assert seeds == whole[: 3 * stop]
    keeper.stop_at = None
    fit(image_rows(), config, PRIVATE, keeper=keeper)
    assert seeds == whole


def test_the_steps_are_counted_through_and_another_seed_has_others(seeds: list[int]) -> None:
    """Whatever is drawn: a batch of nobody has its noise too, and a number of its own."""
    config = small_config(epochs=4)
    fit(image_rows(), config, DPSGD(noise_multiplier=1.0, batch_size=1), seed=6)
    assert seeds == [noise_seed(6, step) for step in range(4 * 22)]
    before = set(seeds)
    seeds.clear()
    fit(image_rows(), config, DPSGD(noise_multiplier=1.0, batch_size=1), seed=7)
    assert not before & set(seeds)
