"""Attack-P: is the record's loss small among records that the target did not train on?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from raymia.attacks.posteriors import scaled_confidence
from raymia.attacks.protocol import AttackerView, Needs, Scores, Signals
from raymia.errors import InputError


@dataclass(frozen=True)
class AttackP:
    """Score the share of population records z with l(theta, z) >= l(theta, x), of the records themselves (query 0).

    Ye et al. 2022 (arXiv 2111.09679), population attack: guessing "member" where the score is at least 1 - alpha has
    about the false-positive rate alpha. The ROC is that of the loss attack, but for ties: scores are multiples of
    1 / (number of population records).
    """

    name: ClassVar[str] = "attack_p"
    knowledge: ClassVar[str] = "the posterior of the record's true class, also for a population"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.POPULATION})

    def fit(self, view: AttackerView, rng: np.random.Generator) -> Scores:
        """Sort the population's phi, which falls as the loss rises. Raises InputError where there is no record."""
        if view.population is None or not len(view.population):
            raise InputError(f"attack {self.name} needs population records: give some, or leave the attack out")
        return np.sort(scaled_confidence(view.population.logits_NQC[:, 0], view.population.labels_N))

    def score(self, state: Scores, block: Signals) -> Scores:
        """See the class; float64[N]."""
        phi_N = scaled_confidence(block.logits_NQC[:, 0], block.labels_N)
        return np.searchsorted(state, phi_N, side="right") / len(state)
