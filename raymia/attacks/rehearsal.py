"""Rehearsals: an attack tried on a reference model, whose members the attacker knows, before it meets the target."""

from collections.abc import Iterator, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymia.attacks.protocol import AttackerView, Needs, ReferenceRecords, Signals

REHEARSALS = 2
"""How many reference models are attacked by the others to choose a threshold or a hyperparameter."""

_RECORDS = 10_000
_LEAST = 2  # models that the others must leave a record of every kind that the attack needs: a spread takes two


@dataclass(frozen=True)
class Rehearsal:
    """A reference model in the target's place. view: the other references' side; target: its answers; member_N: bool[N]
    the truth.
    """

    view: AttackerView
    target: Signals
    member_N: NDArray[np.bool_]


def rehearsals(view: AttackerView, needs: Set[Needs], rng: np.random.Generator) -> Iterator[Rehearsal]:
    """The first references, each attacked by all others (`References.balanced_without`), on at most 10,000 records.

    needs: the attack's. Nothing where the attacker cannot rehearse it: the references are too few, have only members or
    only non-members among the records, or did not see the population or the images.
    """
    population = view.population is not None and view.population.references is not None
    if view.records is None or Needs.IMAGES in needs or (Needs.POPULATION in needs and not population):
        return
    models = len(view.records.references)
    for model in range(min(REHEARSALS, models) if models > 1 else 0):
        rehearsal = _rehearsal(view, view.records, model, needs, rng)
        if rehearsal.member_N.any() and not rehearsal.member_N.all():
            yield rehearsal


def _rehearsal(
    view: AttackerView, records: ReferenceRecords, model: int, needs: Set[Needs], rng: np.random.Generator
) -> Rehearsal:
    references = records.references
    judged = np.flatnonzero(references.in_MN[model] | references.out_MN[model])
    chosen = np.sort(rng.permutation(judged)[:_RECORDS])
    others = references.take(chosen).balanced_without(model, rng)
    enough_N = np.ones(len(chosen), dtype=np.bool_)
    if needs & {Needs.OUT_REFERENCES, Needs.IN_REFERENCES}:
        enough_N &= others.out_MN.sum(axis=0) >= _LEAST
    if Needs.IN_REFERENCES in needs:
        enough_N &= others.in_MN.sum(axis=0) >= _LEAST
    chosen, others = chosen[enough_N], others.take(enough_N)
    taken, labels_N = references.take(chosen), records.labels_N[chosen]
    return Rehearsal(
        AttackerView(view.classes, (), ReferenceRecords(labels_N, others), _population(view.population, model)),
        Signals(taken.read(model), labels_N, others),
        taken.in_MN[model],
    )


def _population(population: Signals | None, model: int) -> Signals | None:
    if population is None or population.references is None:
        return None
    references = population.references
    return Signals(references.read(model), population.labels_N, references.but(model))
