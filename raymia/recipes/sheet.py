"""What a contact sheet shows of a synthetic set, picked while the training images are at hand."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymia.diffusion.synthetic_set import Examples
from raymia.metrics.synthetic_copies import COPY_NEIGHBORS, COPY_RATIO, copy_ratio
from raymia.metrics.synthetic_neighbors import nearest
from raymia.recipes.signals import pack_arrays, unpack_arrays
from raymia.recipes.synthetic import SyntheticRecipe
from raymia.store import Store

EACH = 8
"""Kept and rejected images of each class."""
PAIRS = 10
_PARTS = ("ids", "conditions", "labels", "confidences", "images")


@dataclass(frozen=True)
class Sheet:
    """kept, rejected: the first images of each class. generated, training: uint8[m, H, W, C], the generated images
    nearest to a training image, and that image; distances: float64[m], pixels in [0, 1]; copies: bool[m].
    """

    kept: Examples
    rejected: Examples
    generated: NDArray[np.uint8]
    training: NDArray[np.uint8]
    distances: NDArray[np.float64]
    copies: NDArray[np.bool_]

    def pack(self) -> bytes:
        """As bytes, for the store."""
        arrays = {
            f"{name}_{part}": getattr(getattr(self, name), part) for name in ("kept", "rejected") for part in _PARTS
        }
        return pack_arrays(
            **arrays,
            generated=self.generated,
            training=self.training,
            distances=self.distances,
            copies=self.copies,
        )

    @classmethod
    def unpack(cls, payload: bytes) -> "Sheet":
        """The sheet that `pack` made bytes of."""
        arrays = unpack_arrays(payload)
        kept, rejected = (Examples(*(arrays.pop(f"{name}_{part}") for part in _PARTS)) for name in ("kept", "rejected"))
        return cls(kept, rejected, **arrays)


def pick_sheet(
    images: SyntheticRecipe, store: Store, drawn: NDArray[np.uint8], training: NDArray[np.uint8], flips: bool
) -> Sheet:
    """drawn: the generated images to look for copies among. training: what the generator learned from."""
    found = images.read(store)
    near = nearest(drawn, training, flips, min(COPY_NEIGHBORS, len(training)))
    first = np.argsort(near.distances[:, 0], kind="stable")[:PAIRS]
    return Sheet(
        kept=_first_of_each(images, store),
        rejected=found.rejected_examples(store, EACH),
        generated=drawn[first],
        training=training[near.rows[first]],
        distances=near.distances[first, 0],
        copies=copy_ratio(near)[first] < COPY_RATIO,
    )


def _first_of_each(images: SyntheticRecipe, store: Store) -> Examples:
    found = images.read(store)
    labels = found.labels(store)
    first = [np.flatnonzero(labels == label)[:EACH] for label in range(found.classes)]
    numbers = np.sort(np.concatenate(first))
    return Examples(
        ids=found.ids(store)[numbers],
        conditions=labels[numbers],
        labels=labels[numbers],
        confidences=found.confidences(store)[numbers],
        images=found.take(store, numbers),
    )
