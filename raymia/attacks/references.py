"""What reference models answered on the records under attack: read in parts, never all in memory.

M reference models, N records, Q queries of each, C classes. For each record a model is IN (it trained on it) or OUT
(no stage of its making saw it). A model that met the record in a way that the attacked population does not count is
neither.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from raymia.errors import InputError

LEAST_IN = 4
"""IN models of every record below which online attacks are not run: nothing can be learned from fewer."""

Rows = slice | NDArray[Any]
Measure = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float64]]


def measured_queries(
    measure: Measure, logits_NQC: NDArray[np.float32], labels_N: NDArray[np.int64]
) -> NDArray[np.float64]:
    """A measure of each of one model's answers, float64[N, Q]."""
    records, queries, classes = logits_NQC.shape
    return measure(logits_NQC.reshape(-1, classes), np.repeat(labels_N, queries)).reshape(records, queries)


class Answers(Protocol):
    """One model's answers float32[R, Q, C]: an array, or one on disk that is read in parts."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: Rows) -> NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class References:
    """Reference models' answers on N records.

    answers: M models' float32[R, Q, C]. rows_N: int64[N], where in them the N records lie. in_MN, out_MN: bool[M, N].
    """

    answers: Sequence[Answers]
    rows_N: NDArray[np.int64]
    in_MN: NDArray[np.bool_]
    out_MN: NDArray[np.bool_]

    @classmethod
    def of(cls, answers: Sequence[Answers], member_MN: NDArray[np.bool_]) -> "References":
        """Models that are OUT wherever they are not IN. member_MN: bool[M, N], for all N records of the answers.

        Raises InputError where shapes disagree.
        """
        models, records = len(answers), member_MN.shape[1] if member_MN.ndim == 2 else -1
        if member_MN.shape != (models, records) or any(one.shape[0] != records for one in answers):
            raise InputError(
                f"references: membership {member_MN.shape} does not fit {models} models' answers on "
                f"{[one.shape[0] for one in answers[:1]]} records: give bool[models, records]"
            )
        if len(shapes := sorted({tuple(one.shape) for one in answers})) > 1:
            found = " and ".join(map(str, shapes))
            raise InputError(f"references: answers of shapes {found}: ask all models the same queries")
        return cls(answers, np.arange(records), member_MN, ~member_MN)

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def records(self) -> int:
        """N."""
        return len(self.rows_N)

    def take(self, rows: Rows) -> "References":
        """The same models for some of the records; nothing is read."""
        return References(self.answers, self.rows_N[rows], self.in_MN[:, rows], self.out_MN[:, rows])

    def read(self, model: int) -> NDArray[np.float32]:
        """One model's answers on these records, float32[N, Q, C]."""
        return self.answers[model][self.rows_N]

    def measured(self, measure: Measure, labels_N: NDArray[np.int64]) -> NDArray[np.float64]:
        """A measure of every answer, float64[M, N, Q], one model in memory at a time.

        measure: (logits float32[K, C], labels int64[K]) -> float64[K]. labels_N: the records' true classes.
        """
        queries = self.answers[0].shape[1] if len(self) else 0
        measured_MNQ = np.empty((len(self), self.records, queries))
        for model in range(len(self)):
            measured_MNQ[model] = measured_queries(measure, self.read(model), labels_N)
        return measured_MNQ

    def least(self) -> tuple[int, int]:
        """The fewest IN models and the fewest OUT models that any record has."""
        if not self.records:
            return len(self), len(self)
        return int(self.in_MN.sum(axis=0).min()), int(self.out_MN.sum(axis=0).min())

    def but(self, model: int) -> "References":
        """All models except one."""
        kept = np.arange(len(self)) != model
        answers = [one for number, one in enumerate(self.answers) if number != model]
        return References(answers, self.rows_N, self.in_MN[kept], self.out_MN[kept])

    def balanced_without(self, model: int, rng: np.random.Generator) -> "References":
        """The other models, for attacking this one as if it were the target.

        Left alone, the others' counts would give its membership away: a record that it is IN has one IN model fewer
        than one that it is OUT of. So of each record one model of the opposite kind is dropped as well, at random.
        """
        rest = self.but(model)
        in_MN, out_MN = rest.in_MN.copy(), rest.out_MN.copy()
        _drop_one(out_MN, self.in_MN[model], rng)
        _drop_one(in_MN, self.out_MN[model], rng)
        return References(rest.answers, rest.rows_N, in_MN, out_MN)


def _drop_one(mask_MN: NDArray[np.bool_], where_N: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Clear one of each chosen record's models, in place."""
    lots_MN = np.where(mask_MN, rng.random(mask_MN.shape), -1.0)
    chosen_N = np.flatnonzero(where_N & mask_MN.any(axis=0))
    mask_MN[lots_MN[:, chosen_N].argmax(axis=0), chosen_N] = False
