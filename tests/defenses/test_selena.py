"""SELENA: who sees whom, what is learned of a record, and the whole chain."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.defenses import Selena, build_defense
from raymia.errors import InputError
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, make
from raymia.records import Records
from raymia.records.plan import Exposure
from raymia.training.defense import Composed, Context, Defense, TrainingSet
from tests.recipes.conftest import CountingStore, ground_of, study_of


def asked(members: int, seed: int = 5, classes: int = 3) -> Context:
    """A context whose models are the positions they would train on."""
    nobody = np.zeros(0, dtype=np.int64)

    def model(name: str, positions: NDArray[np.int64], defenses: tuple[Defense, ...]) -> NDArray[np.int64]:
        assert defenses == ()
        return positions

    return Context(np.arange(members) + 100, nobody, classes, seed, model, lambda wanted: None)


class Told:
    """A sub-model that is sure of one class, and writes down whom it was asked about."""

    def __init__(self, label: int, classes: int = 3) -> None:
        self.logits_K = np.where(np.arange(classes) == label, 50.0, 0.0).astype(np.float32)
        self.heard: set[int] = set()

    def logits(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        self.heard |= {int(value) for value in inputs[:, 0]}
        return np.tile(self.logits_K, (len(inputs), 1))


def numbered(count: int) -> TrainingSet:
    """Records whose only feature is their number."""
    return TrainingSet(np.arange(count, dtype=np.float32)[:, None], np.zeros(count, dtype=np.int64))


@settings(max_examples=30)
@given(st.integers(2, 25), st.data(), st.integers(40, 90), st.integers(0, 50))
def test_each_record_has_exactly_so_many_sub_models_that_never_saw_it(
    sub_models: int, data: st.DataObject, members: int, seed: int
) -> None:
    non_models = data.draw(st.integers(1, max(1, sub_models // 2)))
    defense, context = Selena(sub_models=sub_models, non_models=non_models), asked(members, seed)
    trained = defense.requires(context)
    assert list(trained) == [f"sub-{number}" for number in range(sub_models)]
    unseen = np.sum([np.isin(context.positions, one, invert=True) for one in trained.values()], axis=0)
    assert (unseen == non_models).all()
    assert all(set(positions) <= set(context.positions) for positions in trained.values())


def test_the_authors_split_shows_each_sub_model_three_fifths() -> None:
    trained = Selena().requires(asked(3000))
    assert len(trained) == 25
    np.testing.assert_allclose([len(positions) / 3000 for positions in trained.values()], 0.6, atol=0.04)


def test_the_split_is_a_draw_of_the_models_own_seed() -> None:
    first, again, other = (Selena().requires(asked(60, seed)) for seed in (5, 5, 6))
    assert all(first[name].tolist() == again[name].tolist() for name in first)
    assert any(first[name].tolist() != other[name].tolist() for name in first)


def test_a_records_target_is_the_mean_posterior_of_those_that_never_saw_it() -> None:
    defense, context = Selena(sub_models=6, non_models=2), asked(40)
    # Sub-models 0 to 2 are sure of class 0, the others of class 1: a target counts which of them were asked.
    told = {f"sub-{number}": Told(number // 3) for number in range(6)}
    rows = defense.training_set(context, told, numbered(40))
    assert rows.targets is not None
    assert rows.targets.dtype == np.float32
    trained = defense.requires(context)
    for number in range(40):
        unseen = [name for name in told if 100 + number not in trained[name]]
        expected = np.mean([told[name].logits_K > 0 for name in unseen], axis=0)
        np.testing.assert_allclose(rows.targets[number], expected, atol=1e-6)
    for name, one in told.items():
        assert not {100 + number for number in one.heard} & set(trained[name])
    assert {tuple(np.round(target, 3)) for target in rows.targets} == {(1, 0, 0), (0.5, 0.5, 0), (0, 1, 0)}
    assert rows.labels.tolist() == [0] * 40


def test_members_are_all_met_directly() -> None:
    assert (Selena().exposure(asked(40)) == Exposure.DIRECT).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sub_models": 5, "non_models": 5}, "non_models must be below sub_models"),
        ({"sub_models": 1, "non_models": 1}, "selena.sub_models: input should be greater than or equal to 2"),
        ({"non_models": 0}, "selena.non_models: input should be greater than or equal to 1"),
    ],
)
def test_bad_hyperparameters_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_defense("selena", given)
    assert "\n" not in str(caught.value)


def test_a_sub_model_without_members_is_refused_before_anything_trains() -> None:
    with pytest.raises(InputError, match=r"^selena.sub_models: 25 with 24 non_models leave one .* of 20 members"):
        Selena(sub_models=25, non_models=24).requires(asked(20))


def test_the_whole_chain_on_digits(digits: Records, store: CountingStore) -> None:
    ground = ground_of(digits, {"training.epochs": 3})
    nobody = np.zeros(0, dtype=np.int64)
    defense = Composed((Selena(sub_models=3, non_models=1),))
    one = ModelRecipe(ground, defense, np.arange(40), nobody, ("target", 0), frozenset({3}))
    parts = one.requires()
    assert all(isinstance(part, ModelRecipe) for part in parts)
    assert len({part.key for part in parts}) == 3
    bench = Bench(digits, store)
    make(one, bench)
    assert [name for name in store.written if name.startswith("models/")] == [
        *(name for part in parts for name in part.artifacts),
        *one.artifacts,
    ]
    opened = {name: recipe.open(store, bench.device) for name, recipe in one._parts.items()}  # type: ignore[attr-defined]
    rows = one._training_set(bench, opened)
    assert rows.targets is not None
    np.testing.assert_allclose(rows.targets.sum(axis=1), 1, rtol=1e-5)
    for name, recipe in one._parts.items():
        assert isinstance(recipe, ModelRecipe)
        [unseen] = [np.flatnonzero(~np.isin(one.positions, recipe.positions))]
        logits = opened[name].logits(digits.inputs[one.positions[unseen]]).astype(np.float64)
        posterior = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(rows.targets[unseen], posterior, rtol=1e-4, atol=1e-6)
    assert one.answer(bench, 3, np.arange(5)).shape[-1] == 10


def test_settings_that_split_alike_share_their_sub_models_and_no_others(digits: Records) -> None:
    def keys(**hyperparameters: Any) -> list[set[str]]:
        blueprint, settings = study_of(digits, {"selena": hyperparameters}, plan__targets=1)
        models = [blueprint.result(setting).targets[0].signals.model for setting in settings[1:]]
        return [{part.key for part in model.requires()} for model in models]

    [few], [same], [other] = (
        keys(sub_models=3, non_models=1),
        keys(sub_models=3, non_models=1),
        keys(sub_models=3, non_models=2),
    )
    assert few == same
    assert not few & other


def test_it_trains_alike_again(digits: Records, store: CountingStore) -> None:
    ground = ground_of(digits, {"training.epochs": 2})
    nobody = np.zeros(0, dtype=np.int64)
    defense = Composed((Selena(sub_models=3, non_models=1),))
    one = ModelRecipe(ground, defense, np.arange(40), nobody, ("target", 0), frozenset({2}))
    bench = Bench(digits, store)
    make(one, bench)
    kept = store.read(one.artifacts[0])[0]
    for name, _ in list(store.names()):
        store.delete(name)
    make(replace(one), bench)
    assert store.read(one.artifacts[0])[0] == kept
