"""DP-SGD through a study's recipes: built, kept, opened again and measured as any other defense."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from raymia.defenses import DPSGD, EarlyStopping, spent_epsilon
from raymia.errors import InputError
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, make
from raymia.records import Records
from raymia.space_files import load_space
from raymia.store import Store
from raymia.training.defense import Composed
from tests.recipes.conftest import CountingStore, ground_of, space_of, study_of

PRIVATE = {"noise_multiplier": 0.5, "batch_size": 10, "physical_batch": 7}


def recipe(digits: Records, **changes: object) -> ModelRecipe:
    ground = ground_of(digits, {"training.epochs": 3, "training.augmentation": "crop_flip"})
    defense = Composed((DPSGD(**(PRIVATE | changes)), EarlyStopping(fraction=1.0)))  # type: ignore[arg-type]
    nobody = np.zeros(0, dtype=np.int64)
    return ModelRecipe(ground, defense, np.arange(40), nobody, ("target", 0), frozenset({3}))


def test_a_study_measures_it(digits: Records, store: CountingStore) -> None:
    blueprint, [_, setting] = study_of(digits, {"dp_sgd": PRIVATE, "label_smoothing": {"epsilon": 0.1}})
    assert setting.label == "dp_sgd noise_multiplier=0.5 batch_size=10 physical_batch=7 + label_smoothing epsilon=0.1"
    result = blueprint.result(setting)
    make(result, Bench(digits, store))
    assert store.read(result.artifacts[0])


def test_the_kept_model_opens_and_answers_each_record_alone(digits: Records, store: Store) -> None:
    bench, one = Bench(digits, store), recipe(digits)
    one.build(bench)
    model = one.open(bench.store, bench.device)
    assert any(isinstance(layer, nn.GroupNorm) for layer in model.model.modules())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.model.modules())
    together = model.logits(digits.inputs[:50])
    alone = np.concatenate([model.logits(digits.inputs[[row]]) for row in range(0, 50, 10)])
    np.testing.assert_allclose(together[::10], alone, rtol=1e-4, atol=1e-5)
    assert np.isfinite(together).all()
    assert together.std() > 0.01


def test_a_model_interrupted_in_the_store_goes_on_as_if_it_had_not_been(
    digits: Records, store: CountingStore, tmp_path: Path
) -> None:
    whole = Store(str(tmp_path / "undisturbed"))
    recipe(digits).build(Bench(digits, whole))

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipe(digits).build(Bench(digits, store, report=stop))
    torch.manual_seed(1)
    recipe(digits).build(Bench(digits, store))
    name = recipe(digits).artifacts[0]
    assert store.read(name)[0] == whole.read(name)[0]


def test_every_hyperparameter_makes_another_model(digits: Records) -> None:
    changed: list[dict[str, object]] = [
        {"noise_multiplier": 0.6},
        {"noise_multiplier": None, "epsilon": 8.0},
        {"delta": 1e-6},
        {"max_grad_norm": 0.5},
        {"batch_size": 11},
        {"learning_rate": 0.3},
        {"physical_batch": 8},
    ]
    keys = [recipe(digits, **changes).key for changes in ({}, *changed)]
    assert len(set(keys)) == len(keys)


def test_the_built_in_space_has_targets_and_noises_tuned_for_use() -> None:
    settings = load_space("dp_sgd").settings(0)[1:]
    spends = [spent_epsilon(setting.defense, 150, 50, 40) for setting in settings]
    found = [one for one in spends if one is not None]
    assert len(found) == len(settings)
    targets = [one for one in found if one.meaningful]
    assert [round(one.epsilon, 1) for one in targets] == [1, 2, 4, 8]
    assert len(found) - len(targets) >= 2


@pytest.mark.parametrize("other", [{"mixup": {"alpha": 0.5}}, {"relaxloss": {"alpha": 1.0}}])
def test_a_space_that_would_break_the_guarantee_is_refused_before_anything_trains(other: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"defenses dp_sgd and .* cannot be combined") as caught:
        space_of({"dp_sgd": PRIVATE} | other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", [{"epsilon": [1, 2], "noise_multiplier": 1}, {"batch_size": [10, 20]}])
def test_a_space_must_give_one_of_the_two(entry: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"dp_sgd: .*exactly one of epsilon and noise_multiplier"):
        space_of({"dp_sgd": entry})
