"""Modified-entropy attack: the model is surer of its members, and right."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from raymia.attacks.posteriors import modified_entropy
from raymia.attacks.protocol import AttackerView, Needs, Scores, Signals


@dataclass(frozen=True)
class ModifiedEntropy:
    """Score -modified entropy of the record itself (query 0), with one threshold for all classes.

    Song and Mittal 2021 (arXiv 2003.10595). Their thresholds of each class are `PerClass(ModifiedEntropy())`.
    """

    name: ClassVar[str] = "modified_entropy"
    knowledge: ClassVar[str] = "the posteriors and the record's true class"
    needs: ClassVar[frozenset[Needs]] = frozenset()

    def fit(self, view: AttackerView, rng: np.random.Generator) -> None:
        """Nothing to learn."""

    def score(self, state: None, block: Signals) -> Scores:
        """-modified entropy in nats, float64[N]."""
        return -modified_entropy(block.logits_NQC[:, 0], block.labels_N)
