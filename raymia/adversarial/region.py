"""Where an adversarial example may lie: within ε of its image and within the pixel range, rounding included."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

Norm = Literal["linf", "l2"]

_ROUNDING = 2.0**-24
"""The spacing of float32 just below 1: rounding moves a pixel by no more than half of it."""


class Region(Protocol):
    """The examples that are allowed of each image of a batch; all tensors are float32[B, ...]."""

    def project(self, images: Tensor) -> Tensor:
        """The images moved into the region."""
        ...

    def draw(self, rng: np.random.Generator) -> Tensor:
        """A point drawn evenly from the ball around each image, and moved into the pixel range."""
        ...

    def ascend(self, images: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """The images a step of this length up the gradient, steepest in the region's norm, and back into it."""
        ...


def region_around(images: Tensor, norm: Norm, epsilon: float) -> Region:
    """The region of images in [0, 1], float32[B, ...]; epsilon in pixel units.

    No point of it is further than epsilon from its image, compared in exact arithmetic: bounds are rounded inward.
    """
    return _Cube.around(images, epsilon) if norm == "linf" else _Sphere.around(images, epsilon)


@dataclass(frozen=True)
class _Cube:
    images: Tensor
    lower: Tensor
    upper: Tensor
    epsilon: float

    @classmethod
    def around(cls, images: Tensor, epsilon: float) -> "_Cube":
        epsilon = _rounded_down(epsilon)
        lower, upper = (_inward(images, images + side, epsilon) for side in (-epsilon, epsilon))
        return cls(images, lower.clamp(min=0.0), upper.clamp(max=1.0), epsilon)

    def project(self, images: Tensor) -> Tensor:
        return torch.clamp(images, self.lower, self.upper)

    def draw(self, rng: np.random.Generator) -> Tensor:
        fractions = like(self.images, rng.random(self.images.shape, dtype=np.float32))
        return self.project(self.images + (2 * fractions - 1) * self.epsilon)

    def ascend(self, images: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        return self.project(images + step_size * gradient.sign())


@dataclass(frozen=True)
class _Sphere:
    images: Tensor
    epsilon: float

    @classmethod
    def around(cls, images: Tensor, epsilon: float) -> "_Sphere":
        slack = _ROUNDING * images[:1].numel() ** 0.5
        return cls(images, max(epsilon * (1 - 16 * _ROUNDING) - slack, 0.0))

    def project(self, images: Tensor) -> Tensor:
        moved = images - self.images
        shrink = (self.epsilon / _lengths(moved)).clamp(max=1.0).to(moved.dtype)
        # Clipping a point toward an image that is itself in the range only brings it nearer.
        return (self.images + moved * shrink).clamp(0.0, 1.0)

    def draw(self, rng: np.random.Generator) -> Tensor:
        count, *rest = self.images.shape
        direction = like(self.images, rng.standard_normal(self.images.shape, dtype=np.float32))
        radius = rng.random((count, *(1 for _ in rest))) ** (1 / max(int(np.prod(rest)), 1))
        length = self.epsilon * torch.from_numpy(radius).to(self.images.device)
        return self.project(self.images + direction * (length / _lengths(direction)).to(direction.dtype))

    def ascend(self, images: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        return self.project(images + gradient * (step_size / _lengths(gradient)).to(gradient.dtype))


def like(images: Tensor, values: np.ndarray) -> Tensor:
    """The values on the images' device, laid out in memory as they are."""
    return torch.empty_like(images).copy_(torch.from_numpy(values))


def _lengths(vectors: Tensor) -> Tensor:
    """The ℓ2 norm of each record, float64[B, 1, ...], never 0."""
    dimensions = tuple(range(1, vectors.ndim))
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=dimensions, keepdim=True, dtype=torch.float64)
    return norms.clamp(min=1e-30)


def _rounded_down(value: float) -> float:
    """The largest float32 that is not above the value."""
    rounded = np.float32(value)
    return float(np.nextafter(rounded, np.float32(0)) if float(rounded) > value else rounded)


def _inward(images: Tensor, bounds: Tensor, epsilon: float) -> Tensor:
    """Bounds that were rounded further than epsilon from the images, one float32 nearer."""
    beyond = (bounds.double() - images.double()).abs() > epsilon
    return torch.where(beyond, torch.nextafter(bounds, images), bounds)
