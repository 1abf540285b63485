"""Which records a study's attacks find most surely, across targets and defenses.

A score means nothing beside another attack's. What does is how few non-members an attacker must accuse with a member to
find it: the false positive rate of the threshold that just catches it. The smaller, the more exposed the record.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymia.errors import InputError
from raymia.metrics.comparison import Scored
from raymia.metrics.roc import check_membership


@dataclass(frozen=True)
class Exposed:
    """R records by S settings.

    positions: int64[R]. settings: S names. caught_at_RS: float64, the geometric mean, over the targets that trained on
    the record, of the false positive rate at which it is caught; NaN where none did. targets_RS: int64, how many did.
    """

    positions: NDArray[np.int64]
    settings: tuple[str, ...]
    caught_at_RS: NDArray[np.float64]
    targets_RS: NDArray[np.int64]

    def order(self, setting: str) -> NDArray[np.int64]:
        """Row numbers, the most exposed under this setting first, records never trained on last.

        Of equal ones those more exposed under the others come first, then by position.
        """
        rates_RS = np.where(np.isnan(self.caught_at_RS), 1.0, self.caught_at_RS)
        column = self.caught_at_RS[:, self.settings.index(setting)]
        return np.lexsort((self.positions, np.log(rates_RS).sum(axis=1), np.where(np.isnan(column), np.inf, column)))


def caught_at(scores_N: NDArray[np.float64], member_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The false positive rate at which each member is caught, float64[members]: never 0, since (k + 1) / (n + 1) counts
    the k non-members with its score or a larger one among n, and one more that was not seen.
    """
    member = check_membership(member_N, scores_N.shape)
    others = np.sort(scores_N[~member])
    above = len(others) - np.searchsorted(others, scores_N[member], side="left")
    rates: NDArray[np.float64] = (above + 1) / (len(others) + 1)
    return rates


def exposed_records(scored: Mapping[str, list[Scored]]) -> Exposed:
    """Gather every setting's targets, one attack each. Raises InputError where nothing was scored."""
    if not any(scored.values()):
        raise InputError("exposed records: nothing was scored; give a study that is complete")
    positions = np.unique(np.concatenate([one.positions[one.member] for ones in scored.values() for one in ones]))
    logs = np.zeros((len(positions), len(scored)))
    counts = np.zeros((len(positions), len(scored)), dtype=np.int64)
    for column, targets in enumerate(scored.values()):
        for one in targets:
            rows = np.searchsorted(positions, one.positions[one.member])
            logs[rows, column] += np.log(caught_at(one.scores, one.member))
            counts[rows, column] += 1
    means = np.full(logs.shape, np.nan)
    np.divide(logs, counts, out=means, where=counts > 0)
    return Exposed(positions, tuple(scored), np.exp(means), counts)
