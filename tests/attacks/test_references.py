import weakref
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.attacks import ATTACKS, AttackerView, Needs, ReferenceRecords, References, Signals, run_attack
from raymia.attacks.posteriors import scaled_confidence
from raymia.attacks.protocol import BLOCK
from raymia.attacks.references import Rows
from raymia.errors import InputError
from raymia.records.plan import reference_membership
from tests.attacks.worlds import make_world

BY_REFERENCES = [attack for attack in ATTACKS.values() if attack.needs & {Needs.IN_REFERENCES, Needs.OUT_REFERENCES}]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


class Stored:
    """Answers that are read in parts, and nothing else; it counts what of them is in memory at once."""

    living = 0
    most = 0
    largest = 0

    def __init__(self, answers: NDArray[np.float32]) -> None:
        self._answers = answers
        self.shape: tuple[int, ...] = answers.shape

    def __getitem__(self, rows: Rows) -> NDArray[np.float32]:
        part = self._answers[rows].copy()
        weakref.finalize(part, self._gone)
        Stored.living += 1
        Stored.most = max(Stored.most, Stored.living)
        Stored.largest = max(Stored.largest, len(part))
        return part

    @staticmethod
    def _gone() -> None:
        Stored.living -= 1


def stored(signals: Signals) -> Signals:
    assert signals.references is not None
    references = signals.references
    answers = [Stored(np.asarray(one[:])) for one in references.answers]
    kept = References(answers, references.rows_N, references.in_MN, references.out_MN)
    return Signals(signals.logits_NQC, signals.labels_N, kept, signals.gradient_norm_N, signals.inputs_N)


@pytest.mark.parametrize("attack", BY_REFERENCES, ids=lambda attack: attack.name)
def test_stored_answers_give_the_same_scores_with_one_models_block_in_memory(attack: Any) -> None:
    world = make_world(1, edge=2.0, records=BLOCK + 1000, queries=1, classes=2)
    target, population = stored(world.target), stored(world.view.population or world.target)
    assert target.references is not None
    view = AttackerView(2, (), ReferenceRecords(target.labels_N, target.references), population)
    Stored.living = Stored.most = Stored.largest = 0
    scores = run_attack(attack, view, target, rng())
    assert np.array_equal(scores, run_attack(attack, world.view, world.target, rng()))
    rehearsed = attack.name.startswith("rmia") and attack.name != "rmia_ratio"
    # A rehearsal holds the answers of the reference that stands in the target's place as well.
    assert Stored.most == (2 if rehearsed else 1)
    assert Stored.largest <= (10_000 if rehearsed else BLOCK)
    assert Stored.living == 0


def test_measures_are_of_each_answer() -> None:
    world = make_world(1, edge=2.0, records=30, queries=3)
    references = world.target.references
    assert references is not None
    measured_MNQ = references.measured(scaled_confidence, world.target.labels_N)
    assert measured_MNQ.shape == (16, 30, 3)
    alone = scaled_confidence(np.asarray(references.answers[5][7:8])[:, 2], world.target.labels_N[7:8])
    assert measured_MNQ[5, 7, 2] == alone[0]


def test_no_models_and_no_records_measure_nothing() -> None:
    world = make_world(1, edge=2.0, records=20)
    references = world.target.references
    assert references is not None
    nothing = references.take(slice(0, 0)).measured(scaled_confidence, np.zeros(0, np.int64))
    assert nothing.shape == (16, 0, 2)
    nobody = References([], references.rows_N, references.in_MN[:0], references.out_MN[:0])
    assert nobody.measured(scaled_confidence, world.target.labels_N).shape == (0, 20, 0)


def test_taken_twice_is_taken_from_the_taken() -> None:
    references = make_world(1, edge=2.0).target.references
    assert references is not None
    twice = references.take(np.array([5, 3, 9])).take(np.array([2, 0]))
    assert np.array_equal(twice.read(4), references.read(4)[[9, 5]])
    assert np.array_equal(twice.in_MN, references.in_MN[:, [9, 5]])
    assert twice.records == 2


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_left_out_the_numbers_are_the_same_for_members_and_others(seed: int, model: int) -> None:
    draw = np.random.default_rng(seed)
    in_MN = np.stack([half for half in (draw.random((3, 20)) < 0.5) for half in (half, ~half)])
    references = References.of([np.zeros((20, 1, 2), np.float32)] * 6, in_MN)
    others = references.balanced_without(model, draw)
    assert len(others) == 5
    assert (others.in_MN.sum(axis=0) == 2).all()
    assert (others.out_MN.sum(axis=0) == 2).all()
    rest = references.but(model)
    assert not (others.in_MN & ~rest.in_MN).any()
    assert not (others.out_MN & ~rest.out_MN).any()


def test_every_other_model_is_dropped_equally_often() -> None:
    in_MN = reference_membership(20_000, models=16, seed=0, target=0)
    references = References.of([np.zeros((20_000, 1, 2), np.float32)] * 16, in_MN)
    others = references.balanced_without(0, rng())
    rest = references.but(0)
    dropped_MN = (rest.in_MN & ~others.in_MN) | (rest.out_MN & ~others.out_MN)
    assert (dropped_MN.sum(axis=0) == 1).all()
    # The first model's complement is of the opposite kind for all records, any other for half of them.
    share_M = dropped_MN.mean(axis=1)
    assert share_M[0] == pytest.approx(1 / 8, abs=0.01)
    assert share_M[1:] == pytest.approx(np.full(14, 1 / 16), abs=0.008)


def test_records_that_are_neither_keep_their_models() -> None:
    in_MN = np.zeros((4, 3), bool)
    in_MN[:2] = True
    out_MN = ~in_MN
    in_MN[0, 1] = out_MN[0, 1] = False
    references = References([np.zeros((3, 1, 2), np.float32)] * 4, np.arange(3), in_MN, out_MN)
    others = references.balanced_without(0, rng())
    assert list(others.in_MN.sum(axis=0)) == [1, 1, 1]
    assert list(others.out_MN.sum(axis=0)) == [1, 2, 1]


def test_the_fewest_models_are_counted() -> None:
    in_MN = np.array([[True, True], [True, False], [False, False]])
    references = References.of([np.zeros((2, 1, 2), np.float32)] * 3, in_MN)
    assert references.least() == (1, 1)
    assert references.take(np.array([1])).least() == (1, 2)


@pytest.mark.parametrize("shape", [(2, 5), (3, 4), (3,)])
def test_shapes_that_disagree_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"membership .* does not fit 3 models' answers .*: give bool"):
        References.of([np.zeros((5, 1, 2), np.float32)] * 3, np.zeros(shape, bool))


def test_models_that_were_asked_different_queries_are_refused() -> None:
    answers = [np.zeros((5, queries, 2), np.float32) for queries in (1, 2)]
    with pytest.raises(InputError, match=r"answers of shapes \(5, 1, 2\) and \(5, 2, 2\): ask all models the same"):
        References.of(answers, np.zeros((2, 5), bool))
