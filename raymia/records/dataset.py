"""Records in memory: what a study trains on and attacks, the same for every source."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raymia.errors import InputError


@dataclass(frozen=True)
class Records:
    """N labeled records, after exact duplicates were dropped.

    inputs: uint8[N, H, W, channels] images, or float32[N, F] feature vectors.
    labels: int64[N], in 0..K-1. ids: int64[N], unique, in the source's order.
    class_names: K names. source: where they came from, in words. duplicates_dropped: how many were exact copies.
    """

    inputs: NDArray[np.uint8] | NDArray[np.float32]
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: str
    duplicates_dropped: int = field(default=0, compare=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return len(self.class_names)

    @property
    def is_image(self) -> bool:
        """Images (uint8, four axes) rather than feature vectors."""
        return self.inputs.ndim == 4

    @property
    def images(self) -> NDArray[np.uint8]:
        """The inputs of images. Raises InputError for feature vectors."""
        if self.inputs.dtype != np.uint8:
            raise InputError("these records are feature vectors; choose a defense that generates no images")
        return self.inputs  # type: ignore[return-value]

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of contents, labels and ids: two data sets share it only when they are the same records."""
        digest = hashlib.sha256()
        for array in (self.inputs, self.labels, self.ids):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        if len(self.labels) and self.classes != self.labels.max() + 1:
            # Classes without a record show in no array, yet a model has an output for each.
            digest.update(f"{self.classes} classes".encode())
        return digest.hexdigest()[:32]
