"""NN attack: a small net learns from a shadow model how members' answers look."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from raymia.attacks.perceptron import Floats, Perceptron, Schedule, train_perceptron
from raymia.attacks.posteriors import log_posteriors
from raymia.attacks.protocol import AttackerView, Needs, Scores, Signals
from raymia.attacks.shadows import pooled_shadows, require_both_kinds

_LARGEST_LOGIT = 1e4  # a posterior of exactly 0 has the logit -inf, which no net can take


class Features(StrEnum):
    """What the net sees of a model's answer."""

    TOP3_POSTERIORS = "top3_posteriors"
    SORTED_LOGITS = "sorted_logits"


@dataclass(frozen=True)
class SalemNN:
    """Salem et al. 2019 (arXiv 1806.01246), adversary 1: one attack net, trained on the shadow models' records.

    features: the three largest posteriors, largest first (fewer where there are fewer classes), or all logits in
    ascending order; standardized by the shadow records' mean and deviation. hidden: units of the one hidden layer
    (ReLU), which is trained as the output layer is. Members and non-members weigh the same in all, however many.
    """

    features: Features
    hidden: int
    schedule: Schedule

    @property
    def name(self) -> str:
        return f"nn_{self.features}"

    @property
    def knowledge(self) -> str:
        return "the posteriors or logits, and shadow models with known members"

    @property
    def needs(self) -> frozenset[Needs]:
        return frozenset({Needs.SHADOW})

    def fit(self, view: AttackerView, rng: np.random.Generator) -> Perceptron:
        """Train the net. Raises InputError where the shadows lack members or non-members."""
        shadow = pooled_shadows(view)
        require_both_kinds(shadow, self.name)
        return train_perceptron(
            _features_of(shadow.signals, self.features), shadow.member_N, self.hidden, self.schedule, rng
        )

    def score(self, state: Perceptron, block: Signals) -> Scores:
        """The net's logit, float64[N]."""
        return state.logits(_features_of(block, self.features))


# The settings of the authors' code.
NN_TOP3_POSTERIORS = SalemNN(
    Features.TOP3_POSTERIORS, hidden=64, schedule=Schedule(epochs=50, batch=10, learning_rate=0.01, l2=1e-6)
)
# The settings of RelaxLoss's evaluation (Chen et al. 2022), whose code leaves the hidden layer untrained.
NN_SORTED_LOGITS = SalemNN(
    Features.SORTED_LOGITS, hidden=100, schedule=Schedule(epochs=200, batch=256, learning_rate=0.001)
)


def _features_of(signals: Signals, features: Features) -> Floats:
    logits_NC = signals.logits_NQC[:, 0]
    if features is Features.TOP3_POSTERIORS:
        return np.exp(np.sort(log_posteriors(logits_NC), axis=1)[:, :-4:-1])
    return np.sort(np.clip(logits_NC.astype(np.float64), -_LARGEST_LOGIT, _LARGEST_LOGIT), axis=1)
