"""No example leaves the ball or the range of pixels, in exact arithmetic, wherever its image is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raymia.adversarial import Norm, region_around

PIXEL = st.floats(0, 1, width=32)
EPSILON = st.one_of(st.floats(1e-6, 3), st.sampled_from([8 / 255, 0.031, 1 / 255, 0.1, 1.0]))


def lengths(moved: Tensor, norm: Norm) -> Tensor:
    """Of each record, in float64: differences of two float32 are exact there."""
    flat = moved.double().flatten(1)
    return flat.abs().amax(dim=1) if norm == "linf" else flat.square().sum(dim=1).sqrt()


@settings(deadline=None, max_examples=150)
@given(
    pixels=st.lists(PIXEL, min_size=8, max_size=8),
    slopes=st.lists(st.floats(-1e3, 1e3, width=32), min_size=8, max_size=8),
    epsilon=EPSILON,
    stride=st.floats(1e-3, 4),
    norm=st.sampled_from(["linf", "l2"]),
    seed=st.integers(0, 99),
)
def test_every_point_is_in_the_ball_and_a_picture(
    pixels: list[float], slopes: list[float], epsilon: float, stride: float, norm: Norm, seed: int
) -> None:
    images, gradient = (torch.tensor(values, dtype=torch.float32).reshape(2, 1, 2, 2) for values in (pixels, slopes))
    region = region_around(images, norm, epsilon)
    point = region.draw(np.random.default_rng(seed))
    for _ in range(4):
        assert point.dtype == torch.float32
        assert float(point.min()) >= 0
        assert float(point.max()) <= 1
        assert float(lengths(point.double() - images.double(), norm).max()) <= epsilon
        point = region.ascend(point, gradient, stride * epsilon)
    far = region.project(images + gradient)
    assert float(lengths(far.double() - images.double(), norm).max()) <= epsilon
    assert 0 <= float(far.min()) <= float(far.max()) <= 1


def test_an_epsilon_that_float32_would_round_up_is_rounded_down() -> None:
    """0.1 is below the nearest float32, which is this image: all the way to black would be too far."""
    image = torch.full((1, 1, 2, 2), 0.1)
    assert float(image[0, 0, 0, 0]) > 0.1
    point = region_around(image, "linf", 0.1).project(torch.zeros_like(image))
    assert float((point.double() - image.double()).abs().max()) <= 0.1
    assert float(point.max()) < 1e-8


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_region_is_the_whole_ball(norm: Norm) -> None:
    """Rounded inward by no more than rounding: far points land on the border, near ones stay where they are."""
    images = torch.full((3, 1, 4, 4), 0.5)
    region = region_around(images, norm, 0.1)
    direction = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype(np.float32))
    reached = lengths(region.project(images + 9 * direction).double() - images.double(), norm)
    np.testing.assert_allclose(reached.numpy(), 0.1, rtol=1e-4)
    near = images + 0.001 * direction
    torch.testing.assert_close(region.project(near), near)


def test_the_start_is_drawn_evenly() -> None:
    images = torch.full((4000, 1, 2, 2), 0.5)
    cube = region_around(images, "linf", 0.2).draw(np.random.default_rng(0)) - images
    assert float(cube.mean()) == pytest.approx(0, abs=0.005)
    assert float(cube.std()) == pytest.approx(0.2 / 3**0.5, rel=0.02)
    sphere = region_around(images, "l2", 0.2).draw(np.random.default_rng(0)) - images
    inner = lengths(sphere, "l2") < 0.1
    # Of a ball in four dimensions, a sixteenth lies within half the radius.
    assert float(inner.float().mean()) == pytest.approx(1 / 16, abs=0.012)
    assert float(sphere.mean()) == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_is_as_long_as_asked_and_up(norm: Norm) -> None:
    images = torch.full((1, 1, 2, 2), 0.5)
    gradient = torch.tensor([3.0, -4.0, 0.0, 0.0]).reshape(1, 1, 2, 2)
    moved = region_around(images, norm, 0.2).ascend(images, gradient, 0.05) - images
    expected = [0.05, -0.05, 0, 0] if norm == "linf" else [0.03, -0.04, 0, 0]
    np.testing.assert_allclose(moved.flatten().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_a_gradient_nothing_moves(norm: Norm) -> None:
    images = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    stayed = region_around(images, norm, 0.2).ascend(images, torch.zeros_like(images), 0.05)
    torch.testing.assert_close(stayed, images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_examples_lie_in_memory_as_their_images_do(norm: Norm) -> None:
    images = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    point = region_around(images, norm, 0.2).draw(np.random.default_rng(0))
    assert point.is_contiguous(memory_format=torch.channels_last)
    plain = region_around(images.contiguous(), norm, 0.2).draw(np.random.default_rng(0))
    torch.testing.assert_close(point, plain, rtol=0, atol=1e-7)
