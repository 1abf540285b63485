"""The user's own training under every attack."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from raymia.errors import InputError
from raymia.recipes.blueprint import Blueprint
from raymia.recipes.custom import CustomModelRecipe
from raymia.recipes.recipe import Bench, make
from raymia.recipes.result import ResultRecipe
from raymia.records import Records
from raymia.space import custom_space
from tests.recipes.conftest import CountingStore, ground_of

SOURCE = """
import numpy as np
import torch
from torch import nn

CALLS = []

def fit(images, labels, seed):
    CALLS.append((images.shape, images.dtype, labels.dtype, seed))
    images[:] = images  # the records are mine to change
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs), torch.from_numpy(labels)).backward()
        optimizer.step()
    return net

def text(images, labels, seed):
    return "no model"

def narrow(images, labels, seed):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

EPOCHS = 20
"""

Write = Callable[[str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes the user's module anew."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write_module(text: str) -> None:
        sys.modules.pop("own_recipe_of_a_test", None)
        (tmp_path / "own_recipe_of_a_test.py").write_text(text)

    write_module(SOURCE)
    yield write_module
    sys.modules.pop("own_recipe_of_a_test", None)


def result_of(records: Records, function: str = "fit", targets: int = 1) -> ResultRecipe:
    space = custom_space(f"own_recipe_of_a_test:{function}")
    ground = ground_of(records, {"plan.targets": targets})
    blueprint = Blueprint(ground, space.stop_epochs(ground.config.training.epochs))
    return blueprint.result(space.settings(0)[1])


@pytest.mark.usefixtures("write")
def test_the_users_training_is_measured_like_any_other(digits: Records, bench: Bench, store: CountingStore) -> None:
    result = result_of(digits, targets=2)
    torch.manual_seed(5)
    make(result, bench)
    measured = result.open(store)
    assert measured.outcome["test_accuracy"] > 0.4
    assert set(measured.pooled) == {"loss", "entropy"}
    assert measured.train_loss == ()
    calls = sys.modules["own_recipe_of_a_test"].CALLS
    assert {call[:3] for call in calls} == {((40, 8, 8, 1), np.dtype("uint8"), np.dtype("int64"))}
    assert len({call[3] for call in calls}) == len(calls) == 4

    # Other random numbers in the air, the same results.
    again = CountingStore(f"{store.root}-again")
    torch.manual_seed(6)
    make(result_of(digits, targets=2), Bench(digits, again))
    assert again.read(result.artifacts[0])[0] == store.read(result.artifacts[0])[0]


@pytest.mark.usefixtures("write")
def test_answers_are_kept_of_every_record_in_evaluation_mode(digits: Records, bench: Bench) -> None:
    signals = result_of(digits).targets[0].scores[0].target
    make(signals, bench)
    model = signals.model
    assert isinstance(model, CustomModelRecipe)
    answers = model.answer(bench, 99, np.arange(400))
    assert answers.shape == (400, 1, 10)
    kept = signals.open(bench.store)
    np.testing.assert_array_equal(kept.logits_NQC[:, 0], answers[signals.positions][:, 0])


def test_changed_code_is_another_model(digits: Records, write: Write) -> None:
    before = result_of(digits)
    assert result_of(digits).key == before.key
    write(SOURCE.replace("EPOCHS = 20", "EPOCHS = 21"))
    after = result_of(digits)
    assert after.key != before.key
    assert after.targets[0].scores[0].target.model.key != before.targets[0].scores[0].target.model.key
    write(SOURCE)
    assert result_of(digits).key == before.key


@pytest.mark.usefixtures("write")
def test_each_part_of_the_recipe_counts(digits: Records) -> None:
    recipe = result_of(digits).targets[0].scores[0].target.model
    assert isinstance(recipe, CustomModelRecipe)
    parts = (recipe.ground, recipe.function, recipe.source_digest, recipe.positions, recipe.stream)
    changes = {0: ground_of(digits, {"seed": 1}), 1: "a:b", 2: "x", 3: recipe.positions[1:], 4: ("shadow", 7)}
    keys = {
        CustomModelRecipe(*(changes[at] if at == number else part for at, part in enumerate(parts))).key  # type: ignore[arg-type]
        for number in range(5)
    }
    assert len(keys | {recipe.key}) == 6


@pytest.mark.usefixtures("write")
@pytest.mark.parametrize(
    ("function", "why"),
    [("text", "returned str, it must return a torch.nn.Module"), ("narrow", r"it must give 10 logits")],
)
def test_what_is_no_classifier_is_refused_in_a_line(digits: Records, bench: Bench, function: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        make(result_of(digits, function), bench)
    assert f"own_recipe_of_a_test:{function}" in str(caught.value)
    assert "\n" not in str(caught.value)
