"""What the number of a record's IN references tells of its membership: it must be nothing.

Of models over one balanced set, of which one is the target and the others its references, every member of the target
has one IN reference fewer than a non-member. Attacks then read the plan, not the model.
"""

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from raymia.attacks.protocol import block_rows
from raymia.attacks.references import References

_SIGNIFICANT = 4.0  # standard errors that chance passes once in 16,000 plans
_MATTERS = 0.005  # of AUC: what an attack on pure noise may be off by


@dataclass(frozen=True)
class CountLeak:
    """AUC of the IN-count as a score, and by how many standard errors it is off 0.5."""

    auc: float
    errors: float

    @property
    def gives_away(self) -> bool:
        """More than chance, and enough to bend an attack's AUC."""
        return abs(self.errors) > _SIGNIFICANT and abs(self.auc - 0.5) > _MATTERS


def count_leak(in_MN: NDArray[np.bool_], member_N: NDArray[np.bool_]) -> CountLeak:
    """Mann and Whitney's test, ties corrected, of members' IN-counts against non-members'."""
    count_N = in_MN.sum(axis=0)
    members, records = int(member_N.sum()), len(member_N)
    others = records - members
    area = (rankdata(count_N)[member_N].sum() - members * (members + 1) / 2) / (members * others)
    ties = np.unique(count_N, return_counts=True)[1].astype(np.float64)
    spread = records + 1 - float((ties**3 - ties).sum()) / (records * (records - 1))
    error = sqrt(max(spread, 0.0) / (12 * members * others))
    return CountLeak(float(area), float((area - 0.5) / error) if error > 0 else 0.0)


def equalized(references: References, rng: np.random.Generator) -> References:
    """The same number of IN and the same number of OUT models for every record: what is over is dropped at random.

    Knows nothing of the target, and leaves nothing of it in the counts.
    """
    inside, outside = references.least()
    in_MN, out_MN = references.in_MN.copy(), references.out_MN.copy()
    for rows in block_rows(references.records):
        in_MN[:, rows] = _kept(in_MN[:, rows], inside, rng)
        out_MN[:, rows] = _kept(out_MN[:, rows], outside, rng)
    return replace(references, in_MN=in_MN, out_MN=out_MN)


def _kept(mask_MN: NDArray[np.bool_], models: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """So many of each record's models."""
    lots_MN = np.where(mask_MN, rng.random(mask_MN.shape), -1.0)
    place_MN = (-lots_MN).argsort(axis=0).argsort(axis=0)
    kept: NDArray[np.bool_] = mask_MN & (place_MN < models)
    return kept
