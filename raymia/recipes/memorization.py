"""The undefended models by which the records of a study are scored for memorization.

They share neither a random stream nor a half of the records with the attacker's references (LiRA, RMIA): bins of
records are then chosen without a look at what the attacks go by. More of them only add to those there are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymia.errors import InputError
from raymia.metrics.memorization import Memorization, count_memorization
from raymia.recipes.blueprint import Blueprint
from raymia.recipes.ground import Ground
from raymia.recipes.model import ModelRecipe
from raymia.recipes.signals import SignalsRecipe
from raymia.records.plan import REFERENCE_BLOCK, reference_membership
from raymia.seeds import derive_seed
from raymia.store import Store
from raymia.training.defense import Composed

ROLE = "memorization"


@dataclass(frozen=True, eq=False)
class MemorizationModels:
    """M models on halves of N records, and their answers on all of these.

    owner: the target whose records they are; 0 where all targets share them. in_MN: bool[M, N], who trained on which.
    """

    owner: int
    answers: tuple[SignalsRecipe, ...]
    in_MN: NDArray[np.bool_]

    def measure(self, store: Store) -> Memorization:
        """How the records, in the order of their positions, are memorized. Raises MissingError or DamagedError."""
        right = []
        for one in self.answers:
            signals = one.open(store)
            right.append(signals.logits_NQC[:, 0].argmax(axis=1) == signals.labels_N)
        return count_memorization(np.stack(right), self.in_MN)


def memorization_models(blueprint: Blueprint, references: int) -> tuple[MemorizationModels, ...]:
    """The models for each target of a study, in the order of targets; targets that share their records share them.

    references: models for one set of records, in blocks of 16. Raises InputError for another number, and for a plan
    whose models are all targets.
    """
    config = blueprint.ground.config
    if references < REFERENCE_BLOCK or references % REFERENCE_BLOCK:
        least = max(-(-references // REFERENCE_BLOCK), 1) * REFERENCE_BLOCK
        raise InputError(f"--references {references}: they come in blocks of {REFERENCE_BLOCK}; give {least}")
    if config.plan.kind == "half":
        raise InputError("plan.kind: half has no records of a target's own to score; run a study with quad or shared")
    targets = range(config.plan.targets)
    if config.plan.kind == "shared":
        return (_models(blueprint.ground, blueprint.plan(0).scored, 0, references),) * len(targets)
    return tuple(_models(blueprint.ground, blueprint.plan(one).scored, one, references) for one in targets)


def _models(ground: Ground, positions: NDArray[np.int64], owner: int, count: int) -> MemorizationModels:
    halves = reference_membership(
        len(positions), models=count, seed=derive_seed(ground.config.seed, ROLE), target=owner
    )
    epoch = ground.config.training.epochs
    nobody = np.zeros(0, dtype=np.int64)
    answers = []
    for number, half in enumerate(halves):
        stream = (ROLE, owner, number)
        model = ModelRecipe(ground, Composed(()), positions[half], nobody, stream, frozenset({epoch}))
        answers.append(SignalsRecipe(model, epoch, positions))
    return MemorizationModels(owner, tuple(answers), halves)
