"""Training sets read ahead by Ray Data: the same batches as in this process, in bounded memory, beside busy workers."""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from numpy.typing import NDArray

from raymia.defenses import Mixup
from raymia.engine import rows as engine_rows
from raymia.engine.group import build_in_group
from raymia.engine.rows import fetch_on_cluster
from raymia.errors import RunError
from raymia.recipes.model import ModelRecipe
from raymia.store import DamagedError, Store
from raymia.training.defense import TrainingSet
from raymia.training.rows import Concatenated, Fetch, in_order
from tests.engine.models import digits, model, weights
from tests.engine.stored_images import Bad, Killed, Late, OnDisk
from tests.support.stored_images import FileImages, filed
from tests.training.conftest import InterruptedRunError, MemoryKeeper, equal_bits, fit, images_of, small_config

# Ray Data 2.60 sets deprecated settings of its own each time it makes its default context.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")

IMAGE_BYTES = 48


@pytest.fixture(scope="module", autouse=True)
def two_cpus() -> Iterator[None]:
    """Ray with two CPUs, however many there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        # Ray Train cleans up after its groups through the dashboard.
        ray.init(address="local", num_cpus=2, include_dashboard=True, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()


def images(count: int) -> NDArray[np.uint8]:
    """Random images of 48 bytes."""
    return np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def small_tasks(patch: pytest.MonkeyPatch, rows: int) -> None:
    """Have a task read so many images."""
    patch.setattr(engine_rows, "TASK_BYTES", rows * IMAGE_BYTES)


@pytest.mark.parametrize("rows", [1000, 7, 1])
def test_every_share_comes_whole_in_its_turn_and_may_be_written_to(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_tasks(monkeypatch, rows)
    whole = images(40)
    inputs = Concatenated((filed(whole[:30], tmp_path / "images"), whole[30:]))
    numbers = [[3, 39, 3], [], [0], list(range(20, 10, -1)), [31], []]
    shares = [np.array(share, dtype=np.int64) for share in numbers]
    found = []
    for batch in fetch_on_cluster(inputs, shares):
        found.append(batch.copy())
        batch[:] = 0
    assert len(found) == len(shares)
    for batch, share in zip(found, shares, strict=True):
        np.testing.assert_array_equal(batch, whole[share])
    assert list(fetch_on_cluster(inputs, [])) == []


def test_it_is_read_ahead_in_other_processes_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_tasks(monkeypatch, 5)
    whole = images(20)
    inputs = Late(filed(whole, tmp_path / "images").path, whole.shape)
    found = list(fetch_on_cluster(inputs, np.split(np.arange(20), 10)))
    np.testing.assert_array_equal(np.concatenate(found), whole)
    assert os.getpid() not in {process for process, _ in inputs.readings}
    assert [count for _, count in inputs.readings] == [5] * 4


def _settled(inputs: FileImages) -> int:
    """Images read once no more are."""
    before, now = -1, 0
    while before != now:
        time.sleep(1)
        before, now = now, sum(count for _, count in inputs.readings)
    return now


def test_a_slow_training_stops_the_reading_and_its_end_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_tasks(monkeypatch, 100)
    whole = images(6400)
    inputs = filed(whole, tmp_path / "images")
    batches = fetch_on_cluster(inputs, np.split(np.arange(6400), 640))
    np.testing.assert_array_equal(next(batches), whole[:10])
    ahead = _settled(inputs)
    assert 200 <= ahead <= 1000, f"{ahead // 100} of 64 tasks have read"
    for _ in range(400):
        next(batches)
    assert 4000 <= _settled(inputs) <= 5000
    batches.close()  # type: ignore[attr-defined]
    ended = _settled(inputs)
    assert ended <= 5200


def test_a_reader_that_is_killed_is_replaced(tmp_path: Path) -> None:
    whole = images(40)
    inputs = Killed(filed(whole, tmp_path / "images").path, whole.shape)
    np.testing.assert_array_equal(np.concatenate(list(fetch_on_cluster(inputs, [np.arange(40)]))), whole)
    assert (tmp_path / "killed").exists()


def test_readers_that_keep_dying_end_the_training(tmp_path: Path) -> None:
    inputs = Killed(filed(images(40), tmp_path / "images").path, (40, 4, 4, 3), always=True)
    with pytest.raises(RunError, match="a worker failed while it read the training set: WorkerCrashedError") as caught:
        list(fetch_on_cluster(inputs, [np.arange(40)]))
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_the_images_is_said_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DamagedError, match=r"^shard 3 is damaged$"), caplog.at_level(logging.DEBUG, "ray.data"):
        list(fetch_on_cluster(Bad("", (4, 4, 4, 3), DamagedError("shard 3 is damaged")), [np.arange(4)]))
    with pytest.raises(RunError, match=r"read the training set: ValueError: lost$"):
        list(fetch_on_cluster(Bad("", (4, 4, 4, 3), ValueError("lost")), [np.arange(4)]))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def small_digits() -> TrainingSet:
    """100 digits of three classes."""
    records = digits()
    return TrainingSet(records.inputs[:100], records.labels[:100] % 3)


def test_one_worker_trains_the_same_from_memory_from_disk_and_by_ray_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted and resumed, too."""
    monkeypatch.setattr(engine_rows, "TASK_BYTES", 64 * 20)
    rows, config = small_digits(), small_config(epochs=3, batch_size=16, augmentation="crop_flip")
    pixels = images_of(rows)
    stored = replace(rows, inputs=Concatenated((filed(pixels[:60], tmp_path / "images"), pixels[60:])))
    expected = fit(rows, config, Mixup(alpha=0.4))

    def trained(fetch: Fetch, keeper: MemoryKeeper | None = None) -> MemoryKeeper:
        return fit(stored, config, Mixup(alpha=0.4), keeper=keeper, fetch=fetch)

    interrupted = MemoryKeeper(stop_at=2)
    with pytest.raises(InterruptedRunError):
        trained(fetch_on_cluster, interrupted)
    interrupted.stop_at = None
    for found in (trained(in_order), trained(fetch_on_cluster), trained(fetch_on_cluster, interrupted)):
        assert found.histories == expected.histories
        assert equal_bits(found.weights(3), expected.weights(3))
    assert interrupted.reported == [1, 2, 3]


def _never_in_memory(recipe: ModelRecipe) -> ModelRecipe:
    config = recipe.ground.config
    engine = config.engine.model_copy(update={"in_memory_gb": 0.0})
    return replace(recipe, ground=replace(recipe.ground, config=config.model_copy(update={"engine": engine})))


@pytest.mark.slow
def test_two_workers_that_hold_all_cpus_train_the_same_by_ray_data(tmp_path: Path) -> None:
    records = ray.put(digits())
    found: list[dict[str, torch.Tensor]] = []
    plain, streamed = model(workers=2), _never_in_memory(model(OnDisk(str(tmp_path)), workers=2))
    for number, recipe in enumerate((plain, streamed)):
        store = Store(str(tmp_path / f"store-{number}"))
        build_in_group(recipe, records, store, lambda done, total: None)
        found.append(weights(recipe, store))
    assert all(torch.equal(found[1][name], found[0][name]) for name in found[0])
    training = {path.name.removeprefix("trains-") for path in tmp_path.glob("trains-*")}
    reading = {line.split()[0] for path in tmp_path.glob("*.readings") for line in path.read_text().splitlines()}
    assert len(training) == 2
    assert reading
    assert not training & reading, "the workers read for themselves"
