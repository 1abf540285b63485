"""Early stopping releases an earlier model of the undefended training."""

import pytest

from raymia.defenses import EarlyStopping
from raymia.recipes.blueprint import models
from raymia.recipes.recipe import Bench, make
from raymia.recipes.signals import SignalsRecipe
from raymia.records import Records
from raymia.store import Store
from tests.recipes.conftest import study_of


def test_the_papers_stops_of_200_epochs() -> None:
    stops = [EarlyStopping(fraction=fraction).select(200) for fraction in (0.125, 0.25, 0.375, 0.5, 0.625)]
    assert stops == [25, 50, 75, 100, 125]


@pytest.mark.parametrize(("fraction", "epochs", "stop"), [(1, 7, 7), (0.001, 7, 1), (0.5, 1, 1), (0.34, 3, 1)])
def test_a_stop_is_at_least_the_first_epoch_and_at_most_the_last(fraction: float, epochs: int, stop: int) -> None:
    assert EarlyStopping(fraction=fraction).select(epochs) == stop


def signals(result: object) -> SignalsRecipe:
    found: SignalsRecipe = result.targets[0].scores[0].target  # type: ignore[attr-defined]
    return found


def test_every_stop_shares_the_undefended_models_training(digits: Records, store: Store) -> None:
    blueprint, settings = study_of(
        digits, {"early_stopping": {"fraction": [0.25, 0.5, 0.75]}}, training__epochs=4, plan__targets=1
    )
    results = [blueprint.result(setting) for setting in settings]
    assert len({result.key for result in results}) == 4
    assert len(models(results)) == 2  # the target and its shadow
    assert [signals(result).epoch for result in results] == [4, 1, 2, 3]
    [target, shadow] = models(results)
    assert target.artifacts == tuple(f"models/{target.key}/epoch-000{epoch}" for epoch in (1, 2, 3, 4))

    make(results[2], Bench(digits, store))
    assert {name for name, _ in store.names() if name.startswith("models/")} == {*target.artifacts, *shadow.artifacts}
    alone, [_, other] = study_of(digits, {"early_stopping": {"fraction": [0.5]}}, training__epochs=4, plan__targets=1)
    assert signals(alone.result(other)).key == signals(results[2]).key


def test_a_composed_stop_shares_the_other_defenses_training(digits: Records) -> None:
    blueprint, settings = study_of(
        digits,
        {"mixup": {"alpha": 0.5}},
        {"mixup": {"alpha": 0.5}, "early_stopping": {"fraction": [0.5, 1]}},
        training__epochs=4,
    )
    _, plain, half, whole = (signals(blueprint.result(setting)) for setting in settings)
    assert plain.model.key == half.model.key == whole.model.key
    assert plain.key == whole.key != half.key
    assert plain.model.artifacts[0].endswith("epoch-0002")
