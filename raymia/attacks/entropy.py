"""Entropy attack: the model is surer of its members."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from raymia.attacks.posteriors import entropy
from raymia.attacks.protocol import AttackerView, Needs, Scores, Signals


@dataclass(frozen=True)
class Entropy:
    """Score sum_k p_k log p_k of the record itself (query 0); it looks at no label.

    Salem et al. 2019 (arXiv 1806.01246), adversary 3; Song and Mittal 2021 (arXiv 2003.10595).
    """

    name: ClassVar[str] = "entropy"
    knowledge: ClassVar[str] = "the posteriors"
    needs: ClassVar[frozenset[Needs]] = frozenset()

    def fit(self, view: AttackerView, rng: np.random.Generator) -> None:
        """Nothing to learn."""

    def score(self, state: None, block: Signals) -> Scores:
        """-entropy in nats, float64[N]."""
        return -entropy(block.logits_NQC[:, 0])
