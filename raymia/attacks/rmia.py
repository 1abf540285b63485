"""RMIA: how much more likely does the target make a record than other models do, and than this is so for strangers?

Zarifzadeh et al. 2024 (arXiv 2312.03262). P(x|theta) is the probability of the record's true class, P(x) what it is
over models that did or did not train on the record, and their ratio is compared with the ratios of a population Z that
nobody trained on. Where several queries are asked, P is the mean over them, for every model and record alike.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from raymia.attacks.confidences import compared, true_class_probability
from raymia.attacks.group_statistics import Floats, group_mean
from raymia.attacks.protocol import AttackerView, Needs, Scores, Signals, block_rows
from raymia.attacks.rehearsal import rehearsals
from raymia.errors import InputError

GRID = tuple(step / 10 for step in range(11))
"""Values of a that are tried."""

UNTRIED = 0.3
"""a where nothing can be rehearsed: the paper's for CIFAR-10."""

_SMALLEST = 1e-300  # P(x) counts as at least this, so that ratios stay finite


@dataclass(frozen=True)
class _Probabilities:
    """Of each record's true class, float64[N]: under the target, and its mean under the IN and the OUT references."""

    own_N: Floats
    inside_N: Floats
    outside_N: Floats

    def ratio(self, a: float | None) -> Floats:
        """P(x|theta) / P(x), float64[N]. a: of the offline formula, None for the online one."""
        inside_N = self.inside_N if a is None else a * self.outside_N + (1 - a)
        return self.own_N / np.maximum((inside_N + self.outside_N) / 2, _SMALLEST)


@dataclass(frozen=True)
class _State:
    """a: as tuned; None where it plays no part. bars_Z: gamma times the ratio of each z, sorted; None where no Z is."""

    a: float | None
    bars_Z: Floats | None


@dataclass(frozen=True)
class Rmia:
    """online: P(x) = (mean over IN + mean over OUT) / 2; else P(x) = ((1 + a) mean over OUT + (1 - a)) / 2, which takes
    a · P_OUT + (1 - a) for the IN models' mean.

    counts: score the share of z in Z with ratio(x) >= gamma · ratio(z), so that scores are multiples of 1/|Z|; else
    the ratio itself, which needs no Z.

    Of the records in Z there are no IN models, so their P(z) is by the offline formula in either case. a is one of 0,
    .1, … 1: that by whose offline ratio the other references attack a reference model best (AUC). The target is not
    looked at, nor is Z: counting in Z turns ratios into shares without changing their order.
    """

    online: bool
    counts: bool
    gamma: float = 2.0

    @property
    def name(self) -> str:
        return f"rmia{'' if self.counts else '_ratio'}{'' if self.online else '_offline'}"

    @property
    def knowledge(self) -> str:
        models = "reference models, some of them trained on the record" if self.online else "reference models"
        return f"the record's true class and its posterior, {models}{' and a population' if self.counts else ''}"

    @property
    def needs(self) -> frozenset[Needs]:
        models = Needs.IN_REFERENCES if self.online else Needs.OUT_REFERENCES
        return frozenset({models, Needs.POPULATION} if self.counts else {models})

    def fit(self, view: AttackerView, rng: np.random.Generator) -> _State:
        """Tune a and rank the population. rng chooses the rehearsals' records.

        Raises InputError where the references did not answer on the population, or none is OUT of its records.
        """
        a = tuned_a(view, rng) if self.counts or not self.online else None
        if not self.counts:
            return _State(a, None)
        if view.population is None or view.population.references is None:
            raise InputError(f"attack {self.name} needs the references' answers on the population records: give them")
        population = _probabilities(view.population)
        known_Z = ~np.isnan(population.outside_N)
        if not known_Z.any():
            raise InputError(f"attack {self.name} needs population records that reference models are OUT of: give some")
        return _State(a, np.sort(self.gamma * population.ratio(a)[known_Z]))

    def score(self, state: _State, block: Signals) -> Scores:
        """See the class; float64[N]."""
        ratio_N = _probabilities(block).ratio(None if self.online else state.a)
        return ratio_N if state.bars_Z is None else share_reached(ratio_N, state.bars_Z)


def tuned_a(view: AttackerView, rng: np.random.Generator) -> float:
    """See `Rmia`; where nothing can be rehearsed, `UNTRIED`."""
    aucs = []
    for rehearsal in rehearsals(replace(view, population=None), {Needs.OUT_REFERENCES}, rng):
        probabilities = _probabilities(rehearsal.target)
        aucs.append([_auc(probabilities.ratio(a), rehearsal.member_N) for a in GRID])
    return GRID[int(np.mean(aucs, axis=0).argmax())] if aucs else UNTRIED


def share_reached(ratio_N: Floats, bars_Z: Floats) -> Scores:
    """The share of the sorted bars that each ratio reaches (>=): float64[N], by bisection instead of N · Z pairs."""
    return np.searchsorted(bars_Z, ratio_N, side="right") / len(bars_Z)


def _probabilities(signals: Signals) -> _Probabilities:
    """Of all records, read block by block."""
    parts = []
    for rows in block_rows(len(signals)):
        p = compared(signals.take(rows), true_class_probability)
        inside_NQ, outside_NQ = (group_mean(p.references_MNQ, mask_MN) for mask_MN in (p.in_MN, p.out_MN))
        parts.append([values_NQ.mean(axis=1) for values_NQ in (p.own_NQ, inside_NQ, outside_NQ)])
    return _Probabilities(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _auc(scores_N: Scores, member_N: NDArray[np.bool_]) -> float:
    """P(member > non-member) + P(equal) / 2."""
    members, others = int(member_N.sum()), int((~member_N).sum())
    ranks = float(rankdata(scores_N)[member_N].sum())
    return (ranks - members * (members + 1) / 2) / (members * others)
