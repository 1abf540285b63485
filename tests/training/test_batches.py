"""Batches, shares, augmentation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from raymia.training.augment import PADDING, augment
from raymia.training.run import shuffled_batches
from tests.training.conftest import batch_of, run_by_hand


class _Workers:
    rank = 0

    def __init__(self, world: int) -> None:
        self.world = world

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def mean(self, value: float) -> float:
        return value


@given(rows=st.integers(0, 60), batch_size=st.integers(2, 20), world=st.integers(1, 3), epoch=st.integers(0, 3))
def test_an_epoch_takes_every_row_once_but_for_a_last_batch_too_small(
    rows: int, batch_size: int, world: int, epoch: int
) -> None:
    batches = list(shuffled_batches(rows, batch_size, 7, _Workers(world))(epoch))
    taken = np.concatenate([np.zeros(0, dtype=np.int64), *batches])
    assert len(np.unique(taken)) == len(taken)
    assert set(taken.tolist()) <= set(range(rows))
    assert all(2 * world <= len(batch) <= batch_size for batch in batches)
    if batch_size >= 2 * world:
        assert all(len(batch) == batch_size for batch in batches[:-1])
        last = rows % batch_size
        assert rows - len(taken) == (last if last < 2 * world else 0)
    for batch in batches:
        shares = np.array_split(batch, world)
        assert min(len(share) for share in shares) >= 2
        np.testing.assert_array_equal(np.concatenate(shares), batch)


@given(rows=st.integers(10, 60), seed=st.integers(0, 2**31), epoch=st.integers(0, 9))
def test_an_order_repeats_with_its_seed_and_epoch_whatever_the_workers(rows: int, seed: int, epoch: int) -> None:
    def order(seed: int, epoch: int, world: int = 1) -> list[int]:
        return np.concatenate(list(shuffled_batches(rows, rows, seed, _Workers(world))(epoch))).tolist()

    assert order(seed, epoch) == order(seed, epoch) == order(seed, epoch, world=2)
    assert order(seed, epoch) != order(seed, epoch + 1)
    assert order(seed, epoch) != order(seed + 1, epoch)


def test_a_left_over_row_is_not_always_the_same() -> None:
    sampler = shuffled_batches(9, 4, 0, _Workers(1))
    left = {(set(range(9)) - set(np.concatenate(list(sampler(epoch))).tolist())).pop() for epoch in range(40)}
    assert len(left) > 5


def test_workers_gradients_average_to_the_batchs() -> None:
    """Shares of 3 and 2: the mean over workers of the weighted gradients is the gradient of the mean over records."""
    inputs = np.random.default_rng(0).normal(size=(5, 3))
    labels = [0, 2, 1, 1, 0]

    def gradient(rows: slice, world: int) -> Tensor:
        run = run_by_hand()
        run.group = _Workers(world)
        run.step(batch_of(inputs[rows], labels[rows]), 5)
        [parameter] = run.model.parameters()
        assert parameter.grad is not None
        return parameter.grad

    shares = (gradient(slice(0, 3), 2) + gradient(slice(3, 5), 2)) / 2
    torch.testing.assert_close(shares, gradient(slice(0, 5), 1))


def pixels(count: int, size: int) -> Tensor:
    """Images [count, 2, size, size] whose pixels are all different and above zero."""
    return (1 + torch.arange(count * 2 * size * size).float()).reshape(count, 2, size, size)


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """By plain loops: what was at (y, x) is at (y + down, x + right), zeros come in."""
    moved = torch.zeros_like(image)
    size = image.shape[-1]
    for y in range(size):
        for x in range(size):
            if 0 <= y + down < size and 0 <= x + right < size:
                moved[:, y + down, x + right] = image[:, y, x]
    return moved


def test_no_augmentation_changes_nothing() -> None:
    images = pixels(3, 8)
    assert augment(images, "none", np.random.default_rng(0)) is images


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    images = pixels(400, 4)
    flipped = augment(images, "flip", np.random.default_rng(0))
    mirrored = (flipped == images.flip(3)).all(dim=(1, 2, 3))
    same = (flipped == images).all(dim=(1, 2, 3))
    assert bool((mirrored ^ same).all())
    assert 150 < int(mirrored.sum()) < 250


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([5, 6]))
def test_a_crop_shifts_by_at_most_four_pixels_over_zeros(seed: int, size: int) -> None:
    images = pixels(6, size)
    before = images.clone()
    changed = augment(images, "crop_flip", np.random.default_rng(seed))
    assert changed.shape == images.shape
    assert torch.equal(images, before)
    reach = range(-PADDING, PADDING + 1)
    for image, result in zip(images, changed, strict=True):
        candidates = [shifted(one, down, right) for one in (image, image.flip(2)) for down in reach for right in reach]
        assert any(torch.equal(result, candidate) for candidate in candidates)


def test_every_shift_occurs_alike() -> None:
    images = torch.zeros(4000, 1, 9, 9)
    images[:, :, 4, 4] = 1  # stays in the picture under every shift, and where it is under a flip
    changed = augment(images, "crop_flip", np.random.default_rng(0))
    counts = changed.sum(dim=(0, 1))
    assert float(counts.sum()) == 4000
    # 81 places of 49.4 each, deviation 7.
    assert 15 < float(counts.min()) <= float(counts.max()) < 90


@pytest.mark.parametrize("kind", ["flip", "crop_flip"])
def test_augmentation_repeats_with_its_generator(kind: str) -> None:
    images = pixels(16, 8)
    one, again, other = (augment(images, kind, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
