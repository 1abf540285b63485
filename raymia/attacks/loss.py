"""Loss attack: members have a smaller loss."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from raymia.attacks.posteriors import cross_entropy
from raymia.attacks.protocol import AttackerView, Needs, Scores, Signals


@dataclass(frozen=True)
class Loss:
    """Score -cross entropy of the record itself (query 0).

    The threshold adversary of Yeom et al. 2018 (arXiv 1709.01604); Sablayrolles et al. 2019 (arXiv 1908.11229) derive
    it as the best attack that has one threshold for all records (MALT).
    """

    name: ClassVar[str] = "loss"
    knowledge: ClassVar[str] = "the posterior of the record's true class"
    needs: ClassVar[frozenset[Needs]] = frozenset()

    def fit(self, view: AttackerView, rng: np.random.Generator) -> None:
        """Nothing to learn."""

    def score(self, state: None, block: Signals) -> Scores:
        """-cross entropy in nats, float64[N]."""
        return -cross_entropy(block.logits_NQC[:, 0], block.labels_N)
