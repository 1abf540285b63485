from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from raymia.attacks import (
    ATTACKS,
    AttackerView,
    Needs,
    ReferenceRecords,
    References,
    Signals,
    run_attack,
    shadow_threshold,
)
from raymia.attacks.rehearsal import REHEARSALS, Rehearsal, rehearsals
from tests.attacks.worlds import make_world

ONLINE = frozenset({Needs.IN_REFERENCES})
OFFLINE = frozenset({Needs.OUT_REFERENCES})
BY_POPULATION = frozenset({Needs.POPULATION})


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def rehearsed(view: AttackerView, needs: frozenset[Needs]) -> list[Rehearsal]:
    return list(rehearsals(view, needs, rng()))


def test_a_reference_stands_in_the_targets_place_before_the_others() -> None:
    view = make_world(1, edge=2.0).view
    assert view.records is not None
    found = rehearsed(view, ONLINE)
    assert len(found) == REHEARSALS
    for model, one in enumerate(found):
        assert np.array_equal(one.target.logits_NQC, view.records.references.read(model))
        assert np.array_equal(one.member_N, view.records.references.in_MN[model])
        assert one.target.references is not None
        assert one.view.records is not None
        assert one.view.records.references is one.target.references
        assert len(one.target.references) == 15
        assert one.view.population is not None
        assert view.population is not None
        assert view.population.references is not None
        assert np.array_equal(one.view.population.logits_NQC, view.population.references.read(model))
        assert one.view.population.references is not None
        assert len(one.view.population.references) == 15
        assert one.view.shadows == ()


def test_members_and_others_keep_as_many_models_of_each_kind() -> None:
    for one in rehearsed(make_world(1, edge=0.0).view, ONLINE):
        assert one.target.references is not None
        assert (one.target.references.in_MN.sum(axis=0) == 7).all()
        assert (one.target.references.out_MN.sum(axis=0) == 7).all()


def test_many_records_are_sampled() -> None:
    view = make_world(1, edge=0.0, records=12_000, queries=1, classes=2).view
    (first, second) = rehearsed(view, ONLINE)
    assert len(first.target) == len(second.target) == 10_000
    assert 0.48 < first.member_N.mean() < 0.52


def with_masks(view: AttackerView, references: References) -> AttackerView:
    assert view.records is not None
    return replace(view, records=ReferenceRecords(view.records.labels_N, references))


def test_records_with_too_few_models_beside_the_rehearsed_one_are_left_out() -> None:
    view = make_world(1, edge=2.0).view
    assert view.records is not None
    references = view.records.references
    out_MN = references.out_MN.copy()
    for record in range(50):  # two OUT models: one is left beside a rehearsed one
        out_MN[np.flatnonzero(out_MN[:, record])[2:], record] = False
    scarce = with_masks(view, replace(references, out_MN=out_MN))
    for one in rehearsed(scarce, OFFLINE):
        assert one.target.references is not None
        assert one.target.references.out_MN.sum(axis=0).min() >= 2
        assert len(one.target) == 150
    assert all(len(one.target) > 150 for one in rehearsed(scarce, BY_POPULATION))


@pytest.mark.parametrize("models", [0, 1, 2])
def test_too_few_references_give_no_rehearsal(models: int) -> None:
    view = make_world(1, edge=2.0).view
    assert view.records is not None
    references = view.records.references
    few = References(
        references.answers[:models], references.rows_N, references.in_MN[:models], references.out_MN[:models]
    )
    assert rehearsed(with_masks(view, few), OFFLINE) == []
    assert rehearsed(AttackerView(5), OFFLINE) == []


def three_of(view: AttackerView, models: list[int]) -> Signals:
    """The population, answered by some of the references."""
    assert view.population is not None
    assert view.population.references is not None
    references = view.population.references
    answers = [references.answers[model] for model in models]
    return replace(
        view.population, references=References.of(answers, np.zeros((len(models), len(view.population)), bool))
    )


def test_references_that_are_out_of_all_records_give_no_rehearsal_but_scores(auc: Callable[..., float]) -> None:
    world = make_world(1, edge=4.0, records=1600)
    assert world.target.references is not None
    three = [0, 2, 4]
    rows = np.flatnonzero(world.target.references.out_MN[three].all(axis=0))
    taken = world.target.take(rows)
    assert taken.references is not None
    nowhere = References(
        [taken.references.answers[model] for model in three],
        taken.references.rows_N,
        taken.references.in_MN[three],
        taken.references.out_MN[three],
    )
    target = replace(taken, references=nowhere)
    view = replace(
        world.view, records=ReferenceRecords(taken.labels_N, nowhere), population=three_of(world.view, three)
    )
    assert rehearsed(view, OFFLINE) == []
    for name in ("lira_offline", "rmia_offline", "rmia_ratio_offline"):
        assert auc(run_attack(ATTACKS[name], view, target, rng()), world.member_N[rows]) > 0.7
        assert shadow_threshold(ATTACKS[name], view, rng()) is None


def test_a_population_that_references_did_not_answer_gives_no_rehearsal() -> None:
    view = make_world(1, edge=2.0).view
    assert view.population is not None
    alone = replace(view, population=replace(view.population, references=None))
    assert rehearsed(alone, BY_POPULATION) == []
    assert len(rehearsed(alone, OFFLINE)) == REHEARSALS
    assert shadow_threshold(ATTACKS["attack_p"], alone, rng()) is None


def test_what_needs_images_is_not_rehearsed() -> None:
    assert rehearsed(make_world(1, edge=2.0).view, frozenset({Needs.POPULATION, Needs.IMAGES})) == []
