"""What a model withstands: robust accuracy, with its interval."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from raymia.errors import InputError
from raymia.metrics.intervals import fraction_interval, wilson


@dataclass(frozen=True)
class RobustAccuracy:
    """The fraction of unseen records that are answered rightly as they are and under every attack of an evaluation.

    low, high: 95%, Wilson's interval of the records for one target, Student t over targets for several. images: records
    attacked, over all targets. warnings: what makes the number an upper bound only, as the attacks themselves saw it.
    """

    accuracy: float
    low: float
    high: float
    images: int
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives the equal object back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RobustAccuracy":
        return cls(**{**values, "warnings": tuple(values["warnings"])})


def measure_robustness(withstood_N: ArrayLike, warnings: Sequence[str] = ()) -> RobustAccuracy:
    """Robust accuracy of one model from bool[N], the records it withstood on. Raises InputError for none."""
    withstood = np.asarray(withstood_N)
    if withstood.ndim != 1 or not len(withstood) or withstood.dtype != np.bool_:
        raise InputError(f"withstood {withstood.dtype}{withstood.shape}: give bool[N], N above 0")
    accuracy = float(withstood.mean())
    interval = wilson(accuracy, len(withstood))
    return RobustAccuracy(accuracy, interval.low, interval.high, len(withstood), tuple(warnings))


def pool_robustness(targets: Sequence[RobustAccuracy]) -> RobustAccuracy:
    """The mean over targets with Student's t interval; a single target, or equal ones, keep that of the records."""
    if not targets:
        raise InputError("robust accuracies: none given; measure at least one target")
    if len(targets) == 1:
        return targets[0]
    accuracies = [one.accuracy for one in targets]
    interval = fraction_interval(accuracies, min(one.images for one in targets))
    warnings = dict.fromkeys(warning for one in targets for warning in one.warnings)
    return RobustAccuracy(
        float(np.mean(accuracies)), interval.low, interval.high, sum(one.images for one in targets), tuple(warnings)
    )
