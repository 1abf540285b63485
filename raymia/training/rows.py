"""A training set handed out in batches: from memory, or, where it does not fit, read from disk batch by batch."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raymia.training.augment import augment
from raymia.training.defense import Batch, TrainingSet

Numbers = NDArray[np.int64]


class StoredInputs(Protocol):
    """Images that need not fit in memory. They pickle, and small: other processes read them too."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Their number, height, width and channels."""
        ...

    def __len__(self) -> int: ...

    def take(self, numbers: Numbers) -> NDArray[np.uint8]:
        """uint8[b, H, W, channels]: a copy of these images in the order asked for, of which nobody else knows."""
        ...


Inputs = NDArray[np.uint8] | NDArray[np.float32] | StoredInputs
Fetch = Callable[[StoredInputs, Sequence[Numbers]], Iterator[NDArray[np.uint8]]]


def in_order(inputs: StoredInputs, shares: Sequence[Numbers]) -> Iterator[NDArray[np.uint8]]:
    """The images of each share of row numbers, in the shares' order, read in this process when they are asked for."""
    return map(inputs.take, shares)


def taken(inputs: Inputs, numbers: Numbers) -> NDArray[np.uint8] | NDArray[np.float32]:
    """A copy of these rows' inputs, in their order, wherever they are."""
    return inputs[numbers] if isinstance(inputs, np.ndarray) else inputs.take(numbers)


@dataclass(frozen=True, eq=False)
class Concatenated:
    """Images of several sets as one, numbered on from each to the next.

    parts: uint8[n, H, W, channels] each, in memory or stored. Raises ValueError where they are not alike.
    """

    parts: tuple[Inputs, ...]

    def __post_init__(self) -> None:
        if len({part.shape[1:] for part in self.parts}) != 1:
            raise ValueError(f"images of one shape are needed, not of {[part.shape[1:] for part in self.parts]}")
        if any(isinstance(part, np.ndarray) and part.dtype != np.uint8 for part in self.parts):
            raise ValueError("only uint8 images can be concatenated")

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def take(self, numbers: Numbers) -> NDArray[np.uint8]:
        """The images of these numbers, in their order. Raises IndexError for one that is not there."""
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"rows {numbers.min()} to {numbers.max()} were asked of a set of {len(self)}")
        found = np.empty((len(numbers), *self.shape[1:]), dtype=np.uint8)
        first = 0
        for part in self.parts:
            here = np.flatnonzero((first <= numbers) & (numbers < first + len(part)))
            if len(here):
                found[here] = taken(part, numbers[here] - first)
            first += len(part)
        return found


@dataclass(frozen=True, eq=False)
class Selected:
    """Some of the images of a stored set, numbered anew from 0. numbers: int64[m], which of its rows they are."""

    inputs: StoredInputs
    numbers: Numbers

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.inputs.shape[1:])

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, numbers: Numbers) -> NDArray[np.uint8]:
        """The images of these new numbers, in their order."""
        return self.inputs.take(self.numbers[numbers])


def selected(inputs: Inputs, numbers: Numbers) -> Inputs:
    """Some rows of inputs, in this order: a copy of them, or where they are stored a view."""
    return inputs[numbers] if isinstance(inputs, np.ndarray) else Selected(inputs, numbers)


def in_memory(rows: TrainingSet, gigabytes: float) -> TrainingSet:
    """The training set with its inputs in memory; as it is where they are stored and take more than that."""
    if isinstance(rows.inputs, np.ndarray) or math.prod(rows.inputs.shape) > gigabytes * 1e9:
        return rows
    return replace(rows, inputs=taken(rows.inputs, np.arange(len(rows))))


class Rows:
    """A training set on the device, handed out in batches: floats in [0, 1] for images, as they are for features.

    Labels and targets are always in memory, and so are inputs unless they are stored: those `fetch` reads, and the
    batches are the same.
    """

    def __init__(self, rows: TrainingSet, classes: int, device: torch.device, fetch: Fetch = in_order) -> None:
        self._device = device
        self._inputs = self._placed(rows.inputs) if isinstance(rows.inputs, np.ndarray) else rows.inputs
        self._labels = torch.from_numpy(rows.labels).to(device)
        self._targets = None if rows.targets is None else torch.from_numpy(rows.targets).to(device)
        self._one_hot = torch.eye(classes, device=device)
        self._fetch = fetch

    def batches(
        self, shares: Sequence[Numbers], augmentation: str, rng: np.random.Generator
    ) -> Generator[Batch, None, None]:
        """The batch of each share of row numbers, augmented when it is asked for. Closing it ends all reading ahead."""
        for numbers, inputs in zip(shares, self._taken(shares), strict=True):
            index = torch.from_numpy(numbers).to(self._device)
            labels = self._labels[index]
            targets = self._one_hot[labels] if self._targets is None else self._targets[index]
            yield Batch(augment(as_pixels(inputs), augmentation, rng), labels, targets)

    def _taken(self, shares: Sequence[Numbers]) -> Iterator[Tensor]:
        if isinstance(self._inputs, Tensor):
            held = self._inputs
            return (held[torch.from_numpy(numbers).to(self._device)] for numbers in shares)
        return map(self._placed, self._fetch(self._inputs, shares))

    def _placed(self, inputs: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(inputs)
        # Kept channel-last in memory, seen channel-first: what convolutions like best.
        return (tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor).to(self._device)


def as_pixels(inputs: Tensor) -> Tensor:
    """uint8 images [B, channels, H, W] as floats in [0, 1]; features unchanged."""
    return inputs.float().div_(255.0) if inputs.dtype == torch.uint8 else inputs
