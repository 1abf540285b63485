"""An array that stays in its file and is read in parts."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymia.attacks.references import Rows


@dataclass(frozen=True)
class StoredArray:
    """An array in C order that begins at `first_byte` of a file. Nothing is kept in memory."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    first_byte: int

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def part(self, index: int) -> "StoredArray":
        """The array at this place of the first axis; nothing is read."""
        return StoredArray(self.path, self.dtype, self.shape[1:], self.first_byte + index * self._row_bytes)

    def __getitem__(self, rows: Rows) -> NDArray[Any]:
        """These rows of the first axis, in their order; all between the first and the last of them are read."""
        numbers = np.arange(self.shape[0])[rows]
        if not len(numbers):
            return np.zeros((0, *self.shape[1:]), self.dtype)
        first, last = int(numbers.min()), int(numbers.max())
        items = (last - first + 1) * math.prod(self.shape[1:])
        read = np.fromfile(self.path, self.dtype, items, offset=self.first_byte + first * self._row_bytes)
        return read.reshape(-1, *self.shape[1:])[numbers - first]

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


Array = NDArray[Any] | StoredArray


def parts_of(array: Array) -> list[Array]:
    """What lies along the first axis; nothing is read."""
    if isinstance(array, StoredArray):
        return [array.part(index) for index in range(array.shape[0])]
    return list(array)
