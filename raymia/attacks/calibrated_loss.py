"""Calibrated loss: the loss against a threshold of each record's own, which says how hard the record is."""

from dataclasses import dataclass

import numpy as np

from raymia.attacks.confidences import bounded_loss, compared
from raymia.attacks.group_statistics import group_mean
from raymia.attacks.protocol import AttackerView, Needs, Scores, Signals


@dataclass(frozen=True)
class CalibratedLoss:
    """Score tau(x) - l(theta, x) in nats, mean over the queries (Sablayrolles et al. 2019, arXiv 1908.11229, MAST).

    online: tau(x) = (mean loss of the IN models + mean loss of the OUT models) / 2; else the mean loss of the OUT
    models alone. A loss counts as at most 1e4.
    """

    online: bool

    @property
    def name(self) -> str:
        return "calibrated_loss" if self.online else "calibrated_loss_offline"

    @property
    def knowledge(self) -> str:
        models = "reference models, some of them trained on the record" if self.online else "reference models"
        return f"the posterior of the record's true class and {models}"

    @property
    def needs(self) -> frozenset[Needs]:
        return frozenset({Needs.IN_REFERENCES if self.online else Needs.OUT_REFERENCES})

    def fit(self, view: AttackerView, rng: np.random.Generator) -> None:
        """Nothing to learn."""

    def score(self, state: None, block: Signals) -> Scores:
        """See the class; float64[N]."""
        loss = compared(block, bounded_loss)
        tau_NQ = group_mean(loss.references_MNQ, loss.out_MN)
        if self.online:
            tau_NQ = (tau_NQ + group_mean(loss.references_MNQ, loss.in_MN)) / 2
        return (tau_NQ - loss.own_NQ).mean(axis=1)
