"""The workshop: each recipe is built once, failures stay where they belong, killed workers are replaced."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from raymia.engine.cluster import Cluster
from raymia.engine.workshop import Tally, open_workshop
from raymia.keys import array_digest
from raymia.recipes.recipe import Bench, make
from raymia.store import Store
from tests.engine import recipes
from tests.engine.conftest import ask
from tests.engine.models import KilledOnce, Reserving, Scribbling, digits, model, seen, weights
from tests.engine.recipes import Noted


@pytest.fixture(scope="module")
def records(own_ray: Cluster) -> Any:
    """A reference to the digits."""
    return ray.put(digits())


@pytest.fixture
def workshop(records: Any, store: Store) -> Iterator[Any]:
    """A new workshop with an empty store."""
    actor = open_workshop(records, store)
    yield actor
    ray.kill(actor)


def _tally(workshop: Any) -> Tally:
    tally: Tally = ray.get(workshop.tally.remote())
    return tally


def test_each_is_built_once_however_many_ask(workshop: Any, tmp_path: Path, store: Store) -> None:
    folder = str(tmp_path)
    base = Noted("base", folder, recipes.slowly)
    tops = [Noted(f"top{number}", folder, parts=(base,)) for number in range(4)]
    assert ask(workshop, *tops, *tops, base) == [None] * 9
    assert sorted(seen(folder)) == ["base", "top0", "top1", "top2", "top3"]
    tally = _tally(workshop)
    assert (tally.built, tally.reused) == ({"scores": 5}, {})
    assert sorted(name for name, _ in store.names()) == sorted(recipe.artifacts[0] for recipe in [base, *tops])


def test_what_is_there_is_reused_and_what_is_damaged_is_rebuilt(workshop: Any, tmp_path: Path, store: Store) -> None:
    folder = str(tmp_path)
    good, bad = Noted("good", folder), Noted("bad", folder)
    for recipe in (good, bad):
        store.write(recipe.artifacts[0], b"made before", {})
    path = Path(store.root, bad.artifacts[0])
    path.write_bytes(path.read_bytes()[:-1])
    assert ask(workshop, good, bad, good) == [None] * 3
    assert seen(folder) == ["bad"]
    assert store.read(bad.artifacts[0])[0] == b"made"
    tally = _tally(workshop)
    assert (tally.built, tally.reused, tally.damaged) == ({"scores": 1}, {"scores": 1}, ["noted/bad"])


def test_one_failure_leaves_the_others_and_may_be_asked_again(workshop: Any, tmp_path: Path) -> None:
    folder = str(tmp_path)
    broken = Noted("broken", folder, recipes.fail_at_first)
    needs_it, other = Noted("needs it", folder, parts=(broken,)), Noted("other", folder)
    failed, of_broken, of_other = ask(workshop, needs_it, broken, other)
    assert of_other is None
    assert failed.retry
    assert failed == of_broken
    assert failed.message == "OSError: the disk is away"
    assert "fail_at_first" in failed.detail
    assert sorted(seen(folder)) == ["broken", "other"]
    assert ask(workshop, needs_it) == [None]
    assert sorted(seen(folder)) == ["broken", "broken", "needs it", "other"]
    assert _tally(workshop).built == {"scores": 3}


def test_divergence_is_a_failure_that_is_not_tried_again(workshop: Any, tmp_path: Path) -> None:
    [failure] = ask(workshop, Noted("nan", str(tmp_path), recipes.diverge))
    assert not failure.retry
    assert failure.message == "training diverged at epoch 3: the loss is nan"
    assert seen(str(tmp_path)) == ["nan"]


def test_a_store_that_cannot_be_read_is_a_failure_with_its_reason(workshop: Any, tmp_path: Path, store: Store) -> None:
    folder = str(tmp_path)
    lost, other = Noted("lost", folder), Noted("other", folder)
    Path(store.root, lost.artifacts[0]).mkdir(parents=True)  # a folder where the artifact belongs
    failure, of_other = ask(workshop, lost, other)
    assert of_other is None
    assert failure.retry
    assert "noted/lost" in failure.message
    [again] = ask(workshop, Noted("above", folder, parts=(lost,)))
    assert again.message == failure.message


def test_a_killed_worker_is_replaced(workshop: Any, tmp_path: Path) -> None:
    assert ask(workshop, Noted("victim", str(tmp_path), recipes.be_killed_at_first)) == [None]
    assert seen(str(tmp_path)) == ["victim", "victim"]


def test_a_killed_training_goes_on_from_its_checkpoint(workshop: Any, tmp_path: Path, store: Store) -> None:
    recipe = model(KilledOnce(str(tmp_path)))
    assert ask(workshop, recipe) == [None]
    epochs, pids = zip(*((int(line.split()[1]), line.split()[2]) for line in seen(str(tmp_path))), strict=True)
    # Killed in its third epoch; the second process starts there, not at the beginning.
    assert epochs == (0, 1, 2, 2, 3)
    assert len(set(pids)) == 2
    assert [name for name, _ in store.names()] == [recipe.artifacts[0]]

    undisturbed, elsewhere = model(), Store(str(tmp_path / "undisturbed"))
    make(undisturbed, Bench(digits(), elsewhere))
    expected, found = weights(undisturbed, elsewhere), weights(recipe, store)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_no_training_reaches_the_shared_records(workshop: Any, records: Any, tmp_path: Path, store: Store) -> None:
    before = digits()
    assert ask(workshop, model(Scribbling())) == [None]
    [failure] = ask(workshop, Noted("scribble", str(tmp_path), recipes.scribble))
    assert failure.message == "ValueError: assignment destination is read-only"
    shared = ray.get(records)
    assert array_digest(np.array(shared.inputs)) == array_digest(before.inputs)
    assert array_digest(np.array(shared.labels)) == array_digest(before.labels)


def test_running_models_are_shown_and_then_are_not(workshop: Any, tmp_path: Path) -> None:
    waiting = Noted("waiting", str(tmp_path), recipes.wait_for_release)
    building = workshop.make.remote(waiting)
    deadline = time.monotonic() + 60
    while not _tally(workshop).running and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _tally(workshop).running == {waiting.label: ("scores", 3, 7)}
    (tmp_path / "release").touch()
    assert ray.get(building) is None
    assert _tally(workshop).running == {}
    ray.get(workshop.progress.remote(waiting.label, "scores", 5, 7))
    assert _tally(workshop).running == {}


def test_a_model_reserves_its_threads_and_leaves_none_to_the_next(workshop: Any, tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert ask(workshop, model(Reserving(folder), threads=2)) == [None]
    assert ask(workshop, Noted("next", folder, recipes.note_threads)) == [None]
    assert seen(folder) == ["2 CPUs, 2 threads", "next", "1 CPUs, 1 threads"]
