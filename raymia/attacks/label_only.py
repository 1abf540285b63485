"""Label-only attacks: all they see of an answer is whether the predicted class is the true one."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from raymia.attacks.perceptron import Floats, Perceptron, Schedule, train_perceptron
from raymia.attacks.protocol import AttackerView, Needs, Scores, Signals
from raymia.attacks.shadows import pooled_shadows, require_both_kinds
from raymia.errors import InputError

_SCHEDULE = Schedule(epochs=50, batch=64, learning_rate=0.01)


@dataclass(frozen=True)
class LabelOnlyGap:
    """Score 1 where the record itself (query 0) is classified right, else 0 (Yeom et al. 2018, arXiv 1709.01604).

    Its accuracy is 1/2 + (training accuracy - test accuracy) / 2.
    """

    name: ClassVar[str] = "label_only_gap"
    knowledge: ClassVar[str] = "the predicted class and the record's true class"
    needs: ClassVar[frozenset[Needs]] = frozenset()

    def fit(self, view: AttackerView, rng: np.random.Generator) -> None:
        """Nothing to learn."""

    def score(self, state: None, block: Signals) -> Scores:
        """float64[N]."""
        return _right(block)[:, 0]


@dataclass(frozen=True)
class LabelOnlyAugmentation:
    """Members keep their class under flips and shifts (Choquette-Choo et al. 2021, arXiv 2007.14321).

    Features: for each of the Q queries, whether it is classified right. A small net learns from the shadow models which
    of them tell members apart; score: its logit. Records with equal features tie.
    """

    name: ClassVar[str] = "label_only_augmentation"
    knowledge: ClassVar[str] = (
        "the predicted class of several queries a record, its true class and shadow models with known members"
    )
    needs: ClassVar[frozenset[Needs]] = frozenset({Needs.SHADOW, Needs.QUERIES})

    hidden: int = 10
    schedule: Schedule = _SCHEDULE

    def fit(self, view: AttackerView, rng: np.random.Generator) -> Perceptron:
        """Train the net. Raises InputError where the shadows lack members or non-members."""
        shadow = pooled_shadows(view, queries=None)
        require_both_kinds(shadow, self.name)
        return train_perceptron(_right(shadow.signals), shadow.member_N, self.hidden, self.schedule, rng)

    def score(self, state: Perceptron, block: Signals) -> Scores:
        """The net's logit, float64[N]. Raises InputError where the shadows answered another number of queries."""
        queries, learned = block.logits_NQC.shape[1], len(state.mean_F)
        if queries != learned:
            raise InputError(
                f"shadow models answer {learned} queries a record, the target {queries}: ask all models the same"
            )
        return state.logits(_right(block))


def _right(signals: Signals) -> Floats:
    """1 where the largest logit is the true class's, else 0: float64[N, Q]."""
    return (signals.logits_NQC.argmax(axis=2) == signals.labels_N[:, None]).astype(np.float64)
