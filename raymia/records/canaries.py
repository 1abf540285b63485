"""Canaries: a few records set apart, and made hard to learn without being remembered.

A defense is worst on what it can only learn by heart (Aerni, Zhang, Tramèr 2024): attacks that hardly find an average
record find these. They are the same for every target of a study, and each model has about half of them.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raymia.config import CanaryKind
from raymia.errors import InputError
from raymia.records.dataset import Records
from raymia.seeds import generator


def planted(records: Records, positions: NDArray[np.int64], kind: CanaryKind, seed: int) -> Records:
    """The records with canaries made of those at `positions` (int64[m]); the very same object where nothing changes.

    `clean`: as they are. `mislabeled`: each with one of the other classes. `noise`: images of independent even noise.
    """
    if not len(positions) or kind == "clean":
        return records
    rng = generator(seed, "canaries", kind)
    if kind == "mislabeled":
        labels = records.labels.copy()
        labels[positions] = (labels[positions] + rng.integers(1, records.classes, len(positions))) % records.classes
        return replace(records, labels=labels)
    images = records.images.copy()
    images[positions] = rng.integers(0, 256, images[positions].shape, dtype=np.uint8)
    return replace(records, inputs=images)


def check_canaries(kind: CanaryKind, input_shape: tuple[int, ...]) -> None:
    """Raise InputError for canaries that cannot be made of such records."""
    if kind == "noise" and len(input_shape) == 1:
        raise InputError("plan.canary_kind: noise is for images, these are feature vectors; give mislabeled or clean")
