"""What generated images give away of the records their generator was trained on: nearness, copies, an attack."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymia.errors import InputError
from raymia.metrics.intervals import wilson
from raymia.metrics.synthetic_neighbors import Nearest, nearest_distance

COPY_NEIGHBORS = 50
COPY_RATIO = 0.5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CloserToTrain:
    """The fraction of generated images nearer to a training record than to any held-out one; 0.5 is leak-free.

    low, high: 95%. images: generated images asked. effective: how many of them count as independent. references:
    training records, and as many held-out ones.
    """

    fraction: float
    low: float
    high: float
    images: int
    effective: int
    references: int


def closer_to_train(train: Nearest, heldout: Nearest) -> CloserToTrain:
    """The fraction with d(train) < d(held-out), ties half, of generated images' nearest records in sets of equal size.

    An image is closer to train exactly when the nearest record of both sets together is a training record. So images
    that share this record share one coin toss, whether that record was put into train or held out, and the interval
    is Wilson's at Kish's effective number of such records, n² / Σ (images of a record)². Given that the sets are a
    random split and the generator leaks nothing, it covers 0.5 in 95%. It holds the trained generator fixed: what
    another training would do is not in it. Raises InputError for sets of unequal size or unequal images.
    """
    if train.references != heldout.references:
        raise InputError(
            f"{train.references} training and {heldout.references} held-out records: the larger set would be nearer "
            "by chance; take equally many of each"
        )
    images = len(train.distances)
    if images == 0 or images != len(heldout.distances):
        raise InputError(f"{images} and {len(heldout.distances)} generated images: ask both sets about the same ones")
    to_train_N, to_heldout_N = train.distances[:, 0], heldout.distances[:, 0]
    closer_N, tied_N = to_train_N < to_heldout_N, to_train_N == to_heldout_N
    fraction = float((closer_N + 0.5 * tied_N).mean())
    # Rows of the two sets are told apart; a tie is told by its training record.
    nearest_N = np.where(closer_N | tied_N, train.rows, train.references + heldout.rows)
    sharing = np.bincount(nearest_N).astype(np.float64)
    effective = int(images**2 / (sharing**2).sum())
    interval = wilson(fraction, effective)
    return CloserToTrain(fraction, interval.low, interval.high, images, effective, train.references)


def copy_ratio(near: Nearest) -> Floats:
    """float64[n]: each generated image's distance to its nearest record over the mean of all distances in `near`.

    near: of at least two nearest records; 50 (`COPY_NEIGHBORS`) in the source (Carlini et al. 2023, section 4.2, their
    ratio with alpha 1: below 0.5 an image counts as extracted). Well below 1, the nearest record is far nearer than
    its surroundings: a copy. Where all distances are 0 the ratio is 0. Raises InputError for a single neighbor.
    """
    if near.distances.shape[1] < 2:
        raise InputError("one neighbor: a nearest record is only near beside others; take at least two")
    around_N = near.distances.mean(axis=1)
    return np.divide(near.distances[:, 0], around_N, out=np.zeros_like(around_N), where=around_N > 0)


def copy_share(ratios_N: Floats, below: float = COPY_RATIO) -> float:
    """The fraction of `copy_ratio` values below the threshold. Raises InputError for none."""
    if len(ratios_N) == 0:
        raise InputError("no generated image: there is nothing to look for copies in")
    return float((ratios_N < below).mean())


def nearest_copy_scores(records: ArrayLike, synthetic: ArrayLike, flips: bool = False) -> Floats:
    """float64[records]: minus the distance of each real record to its nearest generated image.

    A membership attack on what a generator puts out (Hilprecht et al. 2019, Chen et al. 2020, full black-box):
    larger = more likely a member. Arguments and errors as `nearest`.
    """
    return -nearest_distance(records, synthetic, flips)
