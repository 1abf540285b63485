"""The quality of a set of generated images: what a classifier learns from it, its distance to real ones, its copies."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymia.errors import InputError
from raymia.metrics.intervals import t_interval, wilson
from raymia.metrics.membership import Estimate
from raymia.metrics.synthetic_copies import COPY_NEIGHBORS, CloserToTrain, closer_to_train, copy_ratio, copy_share
from raymia.metrics.synthetic_coverage import DENSITY_K, density_coverage, precision_recall
from raymia.metrics.synthetic_distance import Kid, frechet_distance, kid
from raymia.metrics.synthetic_neighbors import nearest

# Images asked for their neighbors, and features compared: enough for every number here, seconds to minutes on one core.
MOST_IMAGES = 5000

# Held-out records: two halves, each with more than the neighbors that density counts.
LEAST_HELD_OUT = 2 * (DENSITY_K + 1)

# Fréchet's bias is about d/n of it: below this many records a dimension it says more about n than about the images.
FRECHET_RECORDS_A_DIMENSION = 10


@dataclass(frozen=True)
class Agreement:
    """Two sets of n features each, the first one real: every number of how alike they are.

    frechet: None where n is too small for it; then read kid. precision to coverage: of the second among the first.
    """

    n: int
    frechet: float | None
    kid: Kid
    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class ClassBalance:
    """counts: images of each class. smallest, largest: shares of all. entropy: of the shares over log K, 1 if even."""

    counts: tuple[int, ...]
    smallest: float
    largest: float
    entropy: float


@dataclass(frozen=True)
class Closeness:
    """How near generated images lie to what the generator was trained on, by one distance.

    copies: fraction whose nearest training record is a copy by `copy_ratio`. chance_copies: the same against as many
    held-out records, which the generator cannot have copied.
    """

    closer: CloserToTrain
    copies: float
    chance_copies: float


@dataclass(frozen=True)
class SyntheticQuality:
    """The quality of one synthetic set; fractions, unless said.

    cas: accuracy on real records of a classifier trained only on the synthetic set. real_accuracy: of one trained on
    as many real records; None where not trained. Intervals 95%: Wilson's over records for one classifier, Student t
    over several. encoder: where features come from, dimension: how many. agreement: of the synthetic set with held-out
    real records, floor: of other held-out records with the same ones, equal n. pixels, features: nearness to the
    training records by pixels and in features. images: in the set; measured: of them, drawn for the neighbors.
    """

    images: int
    measured: int
    encoder: str
    dimension: int
    cas: Estimate | None
    real_accuracy: Estimate | None
    agreement: Agreement
    floor: Agreement
    pixels: Closeness
    features: Closeness
    balance: ClassBalance

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives the equal object back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SyntheticQuality":
        parts: dict[str, Any] = {
            name: None if values[name] is None else Estimate(**values[name]) for name in ("cas", "real_accuracy")
        }
        for name in ("agreement", "floor"):
            parts[name] = Agreement(**(values[name] | {"kid": Kid(**values[name]["kid"])}))
        for name in ("pixels", "features"):
            parts[name] = Closeness(**(values[name] | {"closer": CloserToTrain(**values[name]["closer"])}))
        balance = values["balance"]
        parts["balance"] = ClassBalance(**(balance | {"counts": tuple(balance["counts"])}))
        return cls(**(values | parts))


@dataclass(frozen=True)
class Pictures:
    """Images uint8[n, H, W, C] and their features float[n, d], row by row."""

    images: NDArray[np.uint8]
    features: NDArray[np.float32]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.features):
            raise InputError(f"{len(self.images)} images and {len(self.features)} features: give one row for each")

    def __len__(self) -> int:
        return len(self.images)

    def drawn(self, count: int, rng: np.random.Generator) -> "Pictures":
        """`count` of them in their order, drawn without replacement; all where there are no more."""
        if count >= len(self):
            return self
        rows = np.sort(rng.choice(len(self), count, replace=False))
        return Pictures(self.images[rows], self.features[rows])


def measure_synthetic(
    synthetic: Pictures,
    labels_N: ArrayLike,
    train: Pictures,
    heldout: Pictures,
    *,
    classes: int,
    encoder: str,
    rng: np.random.Generator,
    cas: Estimate | None = None,
    real_accuracy: Estimate | None = None,
    flips: bool = False,
    most: int = MOST_IMAGES,
) -> SyntheticQuality:
    """Every number of a synthetic set whose generator was trained on `train` and never saw `heldout`.

    labels_N: int[n] in 0..classes-1, of the synthetic set. encoder: a name for where the features come from: it should
    have been trained on neither. flips: a mirrored copy counts as a copy. most: at most so many synthetic images are
    measured, drawn by rng. Training and held-out records are brought to equal size by drawing from the larger set.
    Raises InputError where a set is too small for its numbers, or arrays do not fit together.
    """
    balance = class_balance(labels_N, classes)
    if len(np.asarray(labels_N)) != len(synthetic):
        raise InputError(f"{len(np.asarray(labels_N))} labels of {len(synthetic)} synthetic images: give one each")
    asked = synthetic.drawn(most, rng)
    size = min(len(train), len(heldout))
    near, far = train.drawn(size, rng), heldout.drawn(size, rng)
    reached, floor = agreement_with_floor(heldout.features, synthetic.features, rng, most)
    return SyntheticQuality(
        images=len(synthetic),
        measured=len(asked),
        encoder=encoder,
        dimension=synthetic.features.shape[1],
        cas=cas,
        real_accuracy=real_accuracy,
        agreement=reached,
        floor=floor,
        pixels=_closeness(asked.images, near.images, far.images, flips),
        features=_closeness(asked.features, near.features, far.features, False),
        balance=balance,
    )


def accuracy_estimate(accuracies: Sequence[float], records: int) -> Estimate:
    """The mean accuracy of classifiers (one a seed) with its 95% interval, all tested on the same `records` records.

    Student t over several classifiers, Wilson's over the records for a single one or where all are equal.
    """
    if not accuracies or records < 1:
        raise InputError(f"{len(accuracies)} accuracies on {records} records: test at least one classifier")
    mean = float(np.mean(accuracies))
    interval = t_interval(accuracies)
    if interval is None or interval.width <= 0:
        interval = wilson(mean, records)
    clipped = interval.clipped(0, 1)
    return Estimate(mean, clipped.low, clipped.high)


def class_balance(labels_N: ArrayLike, classes: int) -> ClassBalance:
    """How evenly int[n] labels in 0..classes-1 are spread. Raises InputError for none, or others."""
    labels = np.asarray(labels_N)
    if not labels.size or not np.issubdtype(labels.dtype, np.integer):
        raise InputError("labels: give at least one image, labels as integers")
    if classes < 2 or labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"labels: from {labels.min()} to {labels.max()}, and there are {classes} classes")
    counts = np.bincount(labels, minlength=classes)
    shares = counts / counts.sum()
    present = shares[shares > 0]
    entropy = float(-(present * np.log(present)).sum() / np.log(classes))
    return ClassBalance(tuple(counts.tolist()), float(shares.min()), float(shares.max()), abs(entropy))


def agreement(real: ArrayLike, other: ArrayLike, rng: np.random.Generator) -> Agreement:
    """Every number between two sets float[n, d] of equal n; Fréchet only from n = 10 d on."""
    real_ND, other_ND = np.asarray(real), np.asarray(other)
    # First the ones that refuse unequal n and sets too small for their neighbors.
    near, dense = precision_recall(real_ND, other_ND), density_coverage(real_ND, other_ND)
    enough = len(real_ND) >= FRECHET_RECORDS_A_DIMENSION * real_ND.shape[1]
    return Agreement(
        n=len(real_ND),
        frechet=frechet_distance(real_ND, other_ND) if enough else None,
        kid=kid(real_ND, other_ND, rng),
        precision=near.precision,
        recall=near.recall,
        density=dense.density,
        coverage=dense.coverage,
    )


def agreement_with_floor(
    real: ArrayLike, synthetic: ArrayLike, rng: np.random.Generator, most: int = MOST_IMAGES
) -> tuple[Agreement, Agreement]:
    """The agreement of synthetic with real features, and what as many other real ones reach: the real-real floor.

    Real features float[R, d] are shuffled and parted into disjoint halves. The synthetic set float[n, d] and the second
    half are both compared with the first, every time with min(R // 2, n, most) rows of each, drawn by rng, so that the
    biases by n are the same. Raises InputError where that is not more than DENSITY_K rows.
    """
    real_RD, synthetic_ND = np.asarray(real), np.asarray(synthetic)
    size = min(len(real_RD) // 2, len(synthetic_ND), most)
    if size <= DENSITY_K:
        raise InputError(
            f"{len(real_RD)} real and {len(synthetic_ND)} synthetic records: the quality of a set needs more than "
            f"{2 * DENSITY_K + 1} and {DENSITY_K}; keep more of them"
        )
    rows = rng.permutation(len(real_RD))[: 2 * size]
    first, second = real_RD[rows[:size]], real_RD[rows[size:]]
    drawn = synthetic_ND[rng.permutation(len(synthetic_ND))[:size]]
    return agreement(first, drawn, rng), agreement(first, second, rng)


def _closeness(generated: ArrayLike, train: ArrayLike, heldout: ArrayLike, flips: bool) -> Closeness:
    count = min(COPY_NEIGHBORS, len(np.asarray(train)))
    near, far = (nearest(generated, records, flips, count) for records in (train, heldout))
    return Closeness(
        closer=closer_to_train(near, far),
        copies=copy_share(copy_ratio(near)),
        chance_copies=copy_share(copy_ratio(far)),
    )
