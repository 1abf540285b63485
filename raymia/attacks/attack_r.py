"""Attack-R: is the target's loss on the record small for models that did not train on it?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from raymia.attacks.confidences import bounded_confidence, compared
from raymia.attacks.group_statistics import group_mean
from raymia.attacks.protocol import AttackerView, Needs, Scores, Signals


@dataclass(frozen=True)
class AttackR:
    """Score P(l(theta', x) >= l(theta, x)) over the reference models theta' that are OUT of x, mean over the queries.

    Ye et al. 2022 (arXiv 2111.09679), reference-model attack. With one query the scores are multiples of 1 / (number of
    OUT models). Losses are compared by phi, in the reverse order, which keeps its digits where losses round to 0.
    """

    name: ClassVar[str] = "attack_r"
    knowledge: ClassVar[str] = "the posterior of the record's true class and reference models"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.OUT_REFERENCES})

    def fit(self, view: AttackerView, rng: np.random.Generator) -> None:
        """Nothing to learn."""

    def score(self, state: None, block: Signals) -> Scores:
        """See the class; float64[N]."""
        phi = compared(block, bounded_confidence)
        larger_loss_MNQ = (phi.references_MNQ <= phi.own_NQ).astype(np.float64)
        return group_mean(larger_loss_MNQ, phi.out_MN).mean(axis=1)
