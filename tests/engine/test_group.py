"""A model trained by two workers, through Ray Train."""

from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from raymia.engine.cluster import Cluster
from raymia.engine.workshop import open_workshop
from raymia.recipes.recipe import Bench, make
from raymia.store import Store
from tests.engine.conftest import ask
from tests.engine.models import Exploding, KilledOnce, digits, model, seen, weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def records(own_ray: Cluster) -> Any:
    """A reference to the digits."""
    return ray.put(digits())


def _by_group(records: Any, store: Store, *recipes: Any) -> list[Any]:
    workshop = open_workshop(records, store)
    try:
        return ask(workshop, *recipes)
    finally:
        ray.kill(workshop)


@pytest.fixture(scope="module")
def by_two(records: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of the model that two workers trained."""
    store = Store(str(tmp_path_factory.mktemp("group")))
    recipe = model(workers=2)
    assert _by_group(records, store, recipe) == [None]
    assert [name for name, _ in store.names()] == [recipe.artifacts[0]]
    return weights(recipe, store)


def test_two_workers_train_what_one_does(by_two: dict[str, torch.Tensor], store: Store) -> None:
    """So the global batch is what was asked, uneven last shares included: the learning rate makes it show."""
    alone = model()
    make(alone, Bench(digits(), store))
    expected = weights(alone, store)
    assert by_two.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(by_two[name], expected[name], rtol=1e-4, atol=1e-5)


def test_a_killed_group_goes_on_from_its_checkpoint(
    records: Any, by_two: dict[str, torch.Tensor], tmp_path: Path, store: Store
) -> None:
    """And gives the undisturbed group's weights bit for bit, so the same seed gives the same bits."""
    recipe = model(KilledOnce(str(tmp_path)), workers=2)
    assert _by_group(records, store, recipe) == [None]
    lines = [line.split() for line in seen(str(tmp_path))]
    assert {rank: [int(epoch) for owner, epoch, _ in lines if owner == rank] for rank in "01"} == {
        "0": [0, 1, 2, 2, 3],
        "1": [0, 1, 2, 2, 3],
    }
    found = weights(recipe, store)
    assert all(torch.equal(found[name], by_two[name]) for name in by_two)


def test_a_diverging_group_names_the_epoch_and_is_not_tried_again(records: Any, tmp_path: Path, store: Store) -> None:
    [failure] = _by_group(records, store, model(Exploding(str(tmp_path)), workers=2))
    assert failure.message.startswith("training diverged at epoch 2: the loss is")
    assert not failure.retry
    epochs = [line.split()[1] for line in seen(str(tmp_path)) if line.startswith("0 ")]
    assert epochs == ["0"] * 4 + ["1"] * 4
