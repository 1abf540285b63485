"""From the arrays a user hands in to what an attack may see, with everything checked that attacks rely on."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymia.attacks import AttackerView, Needs, ReferenceRecords, References, ShadowSignals, Signals
from raymia.attacks.posteriors import scaled_confidence
from raymia.auditing.answers import ModelAnswers, check_answers
from raymia.auditing.counts import count_leak, equalized
from raymia.auditing.names import check_names
from raymia.auditing.stored_array import Array, parts_of
from raymia.auditing.vectors import ids_of, labels_of, memberships_of
from raymia.errors import InputError
from raymia.seeds import generator

_REMEDIES: Mapping[Needs, str] = {
    Needs.SHADOW: "give shadow_logits, shadow_labels and shadow_member",
    Needs.OUT_REFERENCES: "give reference_logits and reference_member",
    Needs.IN_REFERENCES: "give reference_logits and reference_member",
    Needs.POPULATION: "give population_logits and population_labels",
    Needs.QUERIES: "give [N, Q, C] logits of Q > 1 queries",
    Needs.GRADIENT_NORM: "use --model, which takes them",
    Needs.IMAGES: "use --model with --population, which reads them",
    Needs.ADVERSARIAL_QUERIES: "hand those in as the logits, and name the attack without _adversarial",
}


@dataclass(frozen=True)
class Evidence:
    """N records under attack. ids_N: the user's, or 0 … N - 1. member_N: bool[N], which no attack sees.

    given: shape and type of each array handed in. digests: sha256 of what was handed in. population_given: else the
    scored records stand for the population. remedies: what to do about each need. notes: what a reader must know.
    """

    ids_N: NDArray[Any]
    member_N: NDArray[np.bool_]
    target: Signals
    view: AttackerView
    given: Mapping[str, str]
    digests: Mapping[str, str]
    population_given: bool
    remedies: Mapping[Needs, str]
    notes: tuple[str, ...]


def evidence_of(
    arrays: Mapping[str, Array], digests: Mapping[str, str], *, probabilities: bool, equalize: bool, seed: int
) -> Evidence:
    """Check the arrays (keys: the README) and arrange them; large ones are read through, but not kept in memory.

    probabilities: the answers are these, of which logarithms are taken. equalize: give all records equally many IN
    (OUT) references, dropping some at random (`counts.equalized`). Raises InputError for whatever cannot be audited.
    """
    check_names(arrays)
    maker = _Maker(arrays, probabilities)
    labels_N = maker.labels("labels", maker.records)
    member_N = maker.membership("member", (maker.records,))
    _check_both(member_N, "member", "an audit", 1)
    notes = list(maker.saturated("target_logits", labels_N))
    references = maker.references("reference_logits", maker.records)
    if references is not None:
        references, more = _judged(references, member_N, equalize, seed)
        notes += more
    elif equalize:
        raise InputError("--equalize-references: there are no references; hand in reference_logits, or leave it out")
    target = Signals(maker.one("target_logits", maker.records)[:], labels_N, references)
    population = maker.population()
    view = AttackerView(
        maker.classes,
        maker.shadows(),
        None if references is None else ReferenceRecords(labels_N, references),
        population or Signals(target.logits_NQC, labels_N, references),
    )
    return Evidence(
        ids_of(arrays.get("id"), maker.records),
        member_N,
        target,
        view,
        {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()},
        digests,
        population is not None,
        _REMEDIES,
        tuple(notes),
    )


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Maker:
    """Makes what attacks see of the arrays, holding every shape against the target's."""

    def __init__(self, arrays: Mapping[str, Array], probabilities: bool) -> None:
        self._arrays, self._probabilities = arrays, probabilities
        shape = arrays["target_logits"].shape
        if len(shape) not in (2, 3) or not all(shape) or shape[-1] < 2:
            raise InputError(
                f"target_logits: the shape is {list(shape)}; give [N, C], or [N, Q, C] for Q queries a record, of 2 "
                "or more classes"
            )
        self.records, self.queries, self.classes = shape[0], shape[1] if len(shape) == 3 else 1, shape[-1]

    def one(self, name: str, records: int) -> ModelAnswers:
        """One model's checked answers."""
        self._check_shape(name, self._arrays[name].shape, (records,))
        return self._checked(name, [self._arrays[name]], records)[0]

    def references(self, name: str, records: int) -> References | None:
        """The references' answers and, of the scored records, who is IN; population records are OUT of all."""
        if name not in self._arrays:
            return None
        array = self._arrays[name]
        models = _first_axis(array)
        self._check_shape(name, array.shape, (models, records))
        answers = self._checked(name, parts_of(array), records)
        nobody_MN = np.zeros((models, records), dtype=np.bool_)
        scored = name == "reference_logits"
        return References.of(answers, self.membership("reference_member", (models, records)) if scored else nobody_MN)

    def shadows(self) -> tuple[ShadowSignals, ...]:
        if "shadow_logits" not in self._arrays:
            return ()
        records = _first_axis(self._arrays["shadow_logits"])
        signals = Signals(self.one("shadow_logits", records)[:], self.labels("shadow_labels", records))
        member_N = self.membership("shadow_member", (records,))
        _check_both(member_N, "shadow_member", "learning from a shadow model", 2)
        return (ShadowSignals(signals, member_N),)

    def population(self) -> Signals | None:
        if "population_logits" not in self._arrays:
            return None
        records = _first_axis(self._arrays["population_logits"])
        answers = self.one("population_logits", records)[:]
        references = self.references("population_reference_logits", records)
        if references is not None and len(references) != self._arrays["reference_logits"].shape[0]:
            raise InputError(
                f"population_reference_logits: {len(references)} models, and reference_logits has "
                f"{self._arrays['reference_logits'].shape[0]}: give the same models' answers, in the same order"
            )
        return Signals(answers, self.labels("population_labels", records), references)

    def labels(self, name: str, records: int) -> NDArray[np.int64]:
        """int64[records], below the number of classes."""
        return labels_of(name, self._arrays[name], records, self.classes)

    def membership(self, name: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """Booleans of this shape."""
        return memberships_of(name, self._arrays[name], shape)

    def saturated(self, name: str, labels_N: NDArray[np.int64]) -> tuple[str, ...]:
        """Of probabilities: how many records say no more than 'surely right' or 'surely wrong'."""
        if not self._probabilities:
            return ()
        phi_N = scaled_confidence(self.one(name, self.records)[:][:, 0], labels_N)
        tied = int(np.isinf(phi_N).sum())
        return (
            f"logarithms of probabilities were taken; {tied} of {len(phi_N)} records have one of exactly 0 or 1 for "
            "their class: they tie, which logits might tell apart",
        )

    def _checked(self, name: str, sources: list[Array], records: int) -> list[ModelAnswers]:
        if not np.issubdtype(self._arrays[name].dtype, np.floating):
            raise InputError(f"{name}: holds {self._arrays[name].dtype}; give floating-point numbers")
        shape = (records, self.queries, self.classes)
        answers = [ModelAnswers(source, self._probabilities, shape) for source in sources]
        check_answers(name, answers)
        return answers

    def _check_shape(self, name: str, shape: tuple[int, ...], lead: tuple[int, ...]) -> None:
        fitting = [(*lead, self.queries, self.classes)] + [(*lead, self.classes)] * (self.queries == 1)
        if shape not in fitting or not all(shape):
            raise InputError(
                f"{name}: the shape is {list(shape)}, and target_logits {[self.records, self.queries, self.classes]} "
                f"asks for {' or '.join(str(list(one)) for one in fitting)}: ask all models the same queries, and give "
                "the records in one order"
            )


def _first_axis(array: Array) -> int:
    return array.shape[0] if array.shape else 0


def _check_both(member_N: NDArray[np.bool_], name: str, what: str, least: int) -> None:
    members, others = int(member_N.sum()), int((~member_N).sum())
    if min(members, others) < least:
        raise InputError(
            f"{name}: {members} members and {others} non-members; {what} needs both, at least {least} each: add some"
        )


def _judged(
    references: References, member_N: NDArray[np.bool_], equalize: bool, seed: int
) -> tuple[References, list[str]]:
    """The references, if they can serve. Raises InputError where a record has none OUT, or counts tell membership."""
    outside_N = references.out_MN.sum(axis=0)
    if not outside_N.all():
        raise InputError(
            f"reference_member: {int((outside_N == 0).sum())} records, the first is record {int(outside_N.argmin())}, "
            "are IN every reference model: add models that did not train on them, or leave the records out"
        )
    if equalize:
        references = equalized(references, generator(seed, "audit", "equalize"))
        inside, outside = references.least()
        return references, [f"of every record {inside} IN and {outside} OUT references are used, the others dropped"]
    leak = count_leak(references.in_MN, member_N)
    if leak.gives_away:
        raise InputError(
            f"reference_member: the number of a record's IN references alone tells members with AUC {leak.auc:.3f} "
            "(leave-one-out over one balanced set does this), so attacks would read the plan, not the model: draw "
            "references independently of the target, or add --equalize-references, which drops some at random"
        )
    counts_N = references.in_MN.sum(axis=0)
    fewest, most = int(counts_N.min()), int(counts_N.max())
    return references, [f"the plan is uneven: a record has {fewest} to {most} IN references"] if fewest < most else []
