"""Any attack on a model's answers, with adversarial examples as queries (Song, Shokri & Mittal 2019, arXiv 1905.10291).

A robust training holds the loss down in a ball around each member, so the worst loss in the ball may tell members from
others where the loss of the record itself does not.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from raymia.attacks.protocol import Attack, AttackerView, Needs, Scores, Signals
from raymia.errors import InputError

SUFFIX = "_adversarial"

# What looks at more than the answers to one query a record.
_CLEAN_ONLY = frozenset({Needs.QUERIES, Needs.GRADIENT_NORM, Needs.IMAGES, Needs.ADVERSARIAL_QUERIES})


def without_queries(attack: Attack) -> Attack:
    """The attack itself, whatever it asks models about."""
    return attack.attack if isinstance(attack, AdversarialQueries) else attack


@dataclass(frozen=True)
class AdversarialQueries:
    """`<attack>_adversarial`: the attack as it is, on signals whose one query is each model's adversarial example."""

    attack: Attack

    def __post_init__(self) -> None:
        if self.attack.needs & _CLEAN_ONLY:
            raise InputError(f"attacks: {self.attack.name} does not go by one answer a record; leave out {self.name}")

    @property
    def name(self) -> str:
        return f"{self.attack.name}{SUFFIX}"

    @property
    def knowledge(self) -> str:
        return f"{self.attack.knowledge}; of every model the weights, to craft adversarial examples of its queries"

    @property
    def needs(self) -> frozenset[Needs]:
        return self.attack.needs | {Needs.ADVERSARIAL_QUERIES}

    def fit(self, view: AttackerView, rng: np.random.Generator) -> Any:
        return self.attack.fit(view, rng)

    def score(self, state: Any, block: Signals) -> Scores:
        return self.attack.score(state, block)
