"""What an attack is: what it may see, and the score it gives.

Every score is float64 and larger means "more likely a member"; `run_attack` is the one place that enforces it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from raymia.attacks.references import LEAST_IN, References, Rows
from raymia.errors import InputError

Logits = NDArray[np.float32]
Labels = NDArray[np.int64]
Scores = NDArray[np.float64]


class Needs(StrEnum):
    """What an attack must be given besides the target model's answers.

    OUT_REFERENCES: reference models, OUT of every record. IN_REFERENCES: and some IN it. POPULATION: the target's and
    the references' answers on records that none of them trained on. QUERIES: answers to more than the record itself.
    GRADIENT_NORM: the norm of the loss's gradient. IMAGES: the records themselves. ADVERSARIAL_QUERIES: every model's
    answers to its own adversarial examples, in place of those to the records.
    """

    SHADOW = "shadow models"
    OUT_REFERENCES = "reference models"
    IN_REFERENCES = f"reference models, at least {LEAST_IN} IN for every record"
    POPULATION = "population records"
    QUERIES = "answers to several queries a record"
    GRADIENT_NORM = "gradient norms"
    IMAGES = "the records themselves"
    ADVERSARIAL_QUERIES = "answers to adversarial examples of the records"


@dataclass(frozen=True)
class Signals:
    """One model's answers. N records, Q queries of each (query 0 is the record itself), C classes.

    logits_NQC: float32, of the model in eval mode. labels_N: int64, the true classes. references: what reference models
    answer on the same records. gradient_norm_N: float64, of the loss by the weights. inputs_N: uint8[N, H, W, channels]
    or float32[N, F]. These three only where an attack asked for them. adversarial: whether the model was asked about
    its own adversarial examples of the records in place of them; then Q = 1.
    """

    logits_NQC: Logits
    labels_N: Labels
    references: References | None = None
    gradient_norm_N: Scores | None = None
    inputs_N: NDArray[Any] | None = None
    adversarial: bool = False

    def __len__(self) -> int:
        return len(self.labels_N)

    def take(self, rows: Rows) -> "Signals":
        """The same signals for some of the records."""
        return Signals(
            self.logits_NQC[rows],
            self.labels_N[rows],
            None if self.references is None else self.references.take(rows),
            None if self.gradient_norm_N is None else self.gradient_norm_N[rows],
            None if self.inputs_N is None else self.inputs_N[rows],
            self.adversarial,
        )


@dataclass(frozen=True)
class ShadowSignals:
    """A shadow model's answers on the attacker's own records, whose membership the attacker knows."""

    signals: Signals
    member_N: NDArray[np.bool_]


@dataclass(frozen=True)
class ReferenceRecords:
    """The records that references are IN or OUT of, without the target's answers. labels_N: int64, the true classes."""

    labels_N: Labels
    references: References

    def __len__(self) -> int:
        return len(self.labels_N)

    def blocks(self) -> Iterator["ReferenceRecords"]:
        """A bounded number of records at a time, in order."""
        for rows in block_rows(len(self)):
            yield ReferenceRecords(self.labels_N[rows], self.references.take(rows))


@dataclass(frozen=True)
class AttackerView:
    """All that an attack may learn from before it scores: no membership of the target's records is in it.

    classes: number of classes K. shadows: shadow models trained with the target's defense and hyperparameters.
    records: the references over all records under attack. population: the target's answers, and the references', on
    records that none of them trained on (the attacker's Z).
    """

    classes: int
    shadows: Sequence[ShadowSignals] = ()
    records: ReferenceRecords | None = None
    population: Signals | None = None


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


def block_rows(records: int) -> Iterator[slice]:
    """The records in blocks; one empty block where there are none."""
    for start in range(0, max(records, 1), BLOCK):
        yield slice(start, start + BLOCK)


def missing(attack: Attack, view: AttackerView, target: Signals) -> list[Needs]:
    """What the attack needs and is not given, in a fixed order."""
    references = view.records.references if view.records is not None and target.references is not None else None
    in_least, out_least = references.least() if references is not None and len(references) else (0, 0)
    given = {
        Needs.SHADOW: bool(view.shadows),
        Needs.OUT_REFERENCES: out_least > 0,
        Needs.IN_REFERENCES: out_least > 0 and in_least >= LEAST_IN,
        Needs.POPULATION: view.population is not None,
        Needs.QUERIES: target.logits_NQC.shape[1] > 1,
        Needs.GRADIENT_NORM: target.gradient_norm_N is not None,
        Needs.IMAGES: target.inputs_N is not None,
        Needs.ADVERSARIAL_QUERIES: target.adversarial,
    }
    return [need for need in Needs if need in attack.needs and not given[need]]


def run_attack(attack: Attack, view: AttackerView, target: Signals, rng: np.random.Generator) -> Scores:
    """Fit the attack, score the target's records block by block, and check the scores.

    Returns float64[N], larger = more likely a member. Raises InputError for a missing need, ValueError for a score that
    is not one finite or infinite float64 a record (NaN is refused).
    """
    if lacking := missing(attack, view, target):
        raise InputError(f"attack {attack.name} needs {' and '.join(lacking)}: give them, or leave the attack out")
    return scores_of(attack, attack.fit(view, rng), target)


def scores_of(attack: Attack, state: Any, target: Signals) -> Scores:
    """The fitted attack's checked scores, block by block."""
    return np.concatenate([_checked(attack, state, target.take(rows)) for rows in block_rows(len(target))])


def _checked(attack: Attack, state: Any, block: Signals) -> Scores:
    scores = attack.score(state, block)
    if scores.shape != (len(block),) or scores.dtype != np.float64 or np.isnan(scores).any():
        raise ValueError(f"attack {attack.name} must give one float64 a record, without NaN")
    return scores
