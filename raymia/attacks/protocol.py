"""What an attack is: what it may see, and the score it gives.

Every score is float64 and larger means "more likely a member"; `run_attack` is the one place that enforces it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]
Scores = NDArray[np.float64]


class Needs(StrEnum):
    """What an attack must be given besides the target model's answers."""

    SHADOW = "shadow"


@dataclass(frozen=True)
class Signals:
    """One model's answers. N records, Q queries of each (query 0 is the record itself), C classes.

    logits_NQC: float32, of the model in eval mode. labels_N: int64, the true classes.
    """

    logits_NQC: Logits
    labels_N: Labels

    def __len__(self) -> int:
        return len(self.labels_N)

    def take(self, rows: slice | NDArray[Any]) -> "Signals":
        """The same signals for some of the records."""
        return Signals(self.logits_NQC[rows], self.labels_N[rows])


@dataclass(frozen=True)
class ShadowSignals:
    """A shadow model's answers on the attacker's own records, whose membership the attacker knows."""

    signals: Signals
    member_N: NDArray[np.bool_]


@dataclass(frozen=True)
class AttackerView:
    """All that an attack may learn from before it scores: no membership of the target's records is in it.

    classes: number of classes K. shadows: shadow models trained with the target's defense and hyperparameters.
    """

    classes: int
    shadows: Sequence[ShadowSignals] = ()


@runtime_checkable
class Attack(Protocol):
    """An attack: frozen, its hyperparameters are its fields.

    name: the variant's name. knowledge: what the attacker must know, one line. needs: what the view must hold.
    """

    @property
    def name(self) -> str: ...

    @property
    def knowledge(self) -> str: ...

    @property
    def needs(self) -> frozenset[Needs]: ...

    def fit(self, view: AttackerView, rng: np.random.Generator) -> Any:
        """Learn from the attacker's own models; the state goes to `score`."""
        ...

    def score(self, state: Any, block: Signals) -> Scores:
        """float64[N] for a block of the target's records, larger = member. Depends on each record alone."""
        ...


BLOCK = 8192


def run_attack(attack: Attack, view: AttackerView, target: Signals, rng: np.random.Generator) -> Scores:
    """Fit the attack, score the target's records block by block, and check the scores.

    Returns float64[N], larger = more likely a member. Raises ValueError for a missing need or a score that is not
    one finite or infinite float64 a record (NaN is refused).
    """
    if Needs.SHADOW in attack.needs and not view.shadows:
        raise ValueError(f"attack {attack.name} needs a shadow model")
    state = attack.fit(view, rng)
    return np.concatenate([_checked(attack, state, block) for block in _blocks(target)])


def _blocks(target: Signals) -> Iterator[Signals]:
    for start in range(0, max(len(target), 1), BLOCK):
        yield target.take(slice(start, start + BLOCK))


def _checked(attack: Attack, state: Any, block: Signals) -> Scores:
    scores = attack.score(state, block)
    if scores.shape != (len(block),) or scores.dtype != np.float64 or np.isnan(scores).any():
        raise ValueError(f"attack {attack.name} must give one float64 a record, without NaN")
    return scores
