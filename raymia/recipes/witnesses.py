"""Whom the attacker asks about one target model, and what it hands to each attack of that."""

from dataclasses import dataclass, replace

import numpy as np

from raymia.attacks import LEAST_IN, Attack, Needs
from raymia.metrics.populations import named
from raymia.recipes.scores import MEMBERS, ScoresRecipe, Witness
from raymia.recipes.signals import AnsweringRecipe, GradientNormRecipe, SignalsRecipe

REFERENCE_NEEDS = frozenset({Needs.OUT_REFERENCES, Needs.IN_REFERENCES})
# What the plan `half` has nothing for.
WITHOUT_HALVES = frozenset({Needs.SHADOW, Needs.POPULATION, Needs.IMAGES})
_WITHOUT_SHADOW = REFERENCE_NEEDS | {Needs.POPULATION, Needs.IMAGES}


@dataclass(frozen=True, eq=False)
class Cast:
    """The models around one target: itself, the attacker's shadow on other records, and references on its records."""

    target: AnsweringRecipe
    shadow: AnsweringRecipe | None
    references: tuple[AnsweringRecipe, ...]


@dataclass(frozen=True, eq=False)
class Witnesses:
    """The target's answers on the scored records, a shadow's on its own, references' on the scored ones.

    outside: the target's and the references' answers on records that none of them trained on, the target's first.
    """

    target: Witness
    shadow: Witness | None
    references: tuple[Witness, ...]
    outside: tuple[SignalsRecipe, ...]

    def runs(self, attack: Attack, population: str) -> bool:
        """Whether the attack can be run on this population: online attacks need IN models of each of its records."""
        return Needs.IN_REFERENCES not in attack.needs or self._fewest_in(population) >= LEAST_IN

    def left_out(self, attacks: tuple[Attack, ...], population: str) -> list[str]:
        """The measures of the population that cannot be taken."""
        return [named(one.name, population) for one in attacks if not self.runs(one, population)]

    def scores(self, attack: Attack, population: str) -> ScoresRecipe:
        """The attack on this population, with what it needs and no more."""
        if Needs.ADVERSARIAL_QUERIES in attack.needs and not self.target.signals.crafted:
            return self._crafted().scores(attack, population)
        references = self.references if attack.needs & REFERENCE_NEEDS else ()
        # An attack that stands on other models than a shadow rehearses on those.
        shadowed = Needs.SHADOW in attack.needs or not attack.needs & _WITHOUT_SHADOW
        gradients: list[GradientNormRecipe] = []
        if Needs.GRADIENT_NORM in attack.needs:
            gradients = [GradientNormRecipe(one.signals) for one in (self.target, self.shadow) if one]
        return ScoresRecipe(
            attack,
            self.target.signals,
            self.target.exposure,
            self.shadow if shadowed else None,
            references,
            self.outside[: 1 + len(references)] if Needs.POPULATION in attack.needs else (),
            tuple(gradients),
            population,
        )

    def _crafted(self) -> "Witnesses":
        """The same models, each asked about its own adversarial examples of the records."""
        return Witnesses(
            self.target.crafted(),
            None if self.shadow is None else self.shadow.crafted(),
            tuple(one.crafted() for one in self.references),
            tuple(replace(one, crafted=True) for one in self.outside),
        )

    def _fewest_in(self, population: str) -> int:
        """The fewest references that are IN for any record of the population."""
        if not self.references:
            return 0
        in_N = np.sum([np.isin(one.exposure, MEMBERS[population]) for one in self.references], axis=0)
        counted = np.isin(self.target.exposure, [0, *MEMBERS[population]])
        return int(in_N[counted].min())
