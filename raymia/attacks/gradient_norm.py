"""Gradient norm: training has left little to gain on its members."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from raymia.attacks.protocol import AttackerView, Needs, Scores, Signals


@dataclass(frozen=True)
class GradientNorm:
    """Score -norm of the loss's gradient by the weights, as the signals hold it (Nasr et al. 2019, arXiv 1812.00910).

    It goes with the loss, and says more only where a defense flattens losses.
    """

    name: ClassVar[str] = "gradient_norm"
    knowledge: ClassVar[str] = "the model's weights and the record's true class"
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.GRADIENT_NORM})

    def fit(self, view: AttackerView, rng: np.random.Generator) -> None:
        """Nothing to learn."""

    def score(self, state: None, block: Signals) -> Scores:
        """float64[N]."""
        if block.gradient_norm_N is None:
            raise ValueError(f"attack {self.name} was given no gradient norms")
        return -block.gradient_norm_N.astype(np.float64)
