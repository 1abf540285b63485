"""Training sets in memory and on disk: the same batches, the same weights."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.defenses import Dropout, LabelSmoothing, Mixup
from raymia.seeds import generator
from raymia.training import loop
from raymia.training.augment import augment
from raymia.training.defense import Batch, Defense, TrainingSet
from raymia.training.loop import input_statistics
from raymia.training.rows import (
    Concatenated,
    Numbers,
    Rows,
    StoredInputs,
    as_pixels,
    in_memory,
    in_order,
    selected,
    taken,
)
from raymia.training.run import Run
from tests.support.stored_images import FileImages, filed
from tests.training.conftest import (
    CPU,
    InterruptedRunError,
    MemoryKeeper,
    equal_bits,
    fit,
    image_rows,
    images_of,
    small_config,
)

DEFENSES = (Mixup(alpha=0.4), Dropout(rate=0.3), LabelSmoothing(epsilon=0.1))


def no_draws() -> np.random.Generator:
    return np.random.default_rng(0)


def stored(rows: TrainingSet, folder: Path) -> TrainingSet:
    """The same training set on disk, but for a few images in the middle."""
    images = images_of(rows)
    third = len(images) // 3
    parts = (
        filed(images[:third], folder / "first"),
        images[third : third + 4],
        filed(images[third + 4 :], folder / "last"),
    )
    return replace(rows, inputs=Concatenated(parts))


@pytest.mark.parametrize("on_disk", [False, True])
def test_rows_come_as_pixels_channel_first_with_their_labels(on_disk: bool, tmp_path: Path) -> None:
    rows = image_rows(10)
    handed = Rows(stored(rows, tmp_path) if on_disk else rows, 3, CPU)
    [batch] = handed.batches([np.array([7, 2])], "none", no_draws())
    expected = images_of(rows)[[7, 2]].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(batch.inputs.numpy(), expected, rtol=1e-6)
    assert batch.labels.tolist() == rows.labels[[7, 2]].tolist()
    np.testing.assert_array_equal(batch.targets.numpy(), np.eye(3)[rows.labels[[7, 2]]])
    assert batch.targets.dtype == torch.float32


@pytest.mark.parametrize("on_disk", [False, True])
def test_changing_a_batch_in_place_leaves_the_rows(on_disk: bool, tmp_path: Path) -> None:
    rows = replace(image_rows(10), targets=np.full((10, 3), 1 / 3, dtype=np.float32))
    pixels = images_of(rows).transpose(0, 3, 1, 2) / 255
    labels = rows.labels.copy()
    handed = Rows(stored(rows, tmp_path) if on_disk else rows, 3, CPU)
    for batch in handed.batches([np.arange(10)] * 2, "none", no_draws()):
        np.testing.assert_allclose(batch.inputs.numpy(), pixels, rtol=1e-6)
        assert batch.labels.tolist() == labels.tolist()
        assert bool((batch.targets > 0.3).all())
        for tensor in (batch.inputs, batch.labels, batch.targets):
            tensor.zero_()


def test_features_are_handed_out_as_they_are() -> None:
    features = torch.tensor([[0.5, -2.0]])
    assert as_pixels(features) is features
    assert as_pixels(torch.tensor([[51]], dtype=torch.uint8)).item() == pytest.approx(0.2)


def test_a_batch_is_read_and_augmented_when_it_is_asked_for_and_not_before(tmp_path: Path) -> None:
    """Defenses draw from the same stream between batches."""
    rows = replace(image_rows(12), inputs=filed(images_of(image_rows(12)), tmp_path / "images"))
    images = rows.inputs
    assert isinstance(images, FileImages)
    drawn, expected = np.random.default_rng(3), np.random.default_rng(3)
    batches = Rows(rows, 3, CPU).batches([np.arange(4), np.arange(4, 12)], "crop_flip", drawn)
    for share in (np.arange(4), np.arange(4, 12)):
        handed = next(batches).inputs
        pixels = torch.from_numpy(images_of(image_rows(12))[share]).permute(0, 3, 1, 2) / 255
        torch.testing.assert_close(handed, augment(pixels, "crop_flip", expected))
        assert drawn.bit_generator.state == expected.bit_generator.state
        assert images.readings[-1][1] == len(share)
        drawn.random(), expected.random()
    assert [count for _, count in images.readings] == [4, 8]


class _NotesState(Defense):
    """Notes the random stream's state whenever a batch reaches it."""

    name = "notes_state"

    def __init__(self) -> None:
        self.states: list[Any] = []

    def batch(self, run: Run, batch: Batch) -> Batch:
        self.states.append(run.rng.bit_generator.state)
        return batch


def test_a_defense_draws_after_the_augmentation_of_its_batch_and_before_that_of_the_next() -> None:
    notes = _NotesState()
    fit(image_rows(16), small_config(epochs=1, augmentation="crop_flip"), notes)
    expected = generator(5, "batches", 0, 0)
    for state in notes.states:
        augment(torch.zeros(8, 1, 8, 8), "crop_flip", expected)
        assert state == expected.bit_generator.state
    assert len(notes.states) == 2


@st.composite
def parts_and_numbers(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    sizes = draw(st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 0))
    return sizes, draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=12))


class _Held:
    """Stored images that are in memory after all."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images, self.shape = images, images.shape

    def __len__(self) -> int:
        return len(self.images)

    def take(self, numbers: Numbers) -> NDArray[np.uint8]:
        assert len(numbers), "a part is asked for nothing"
        return self.images[numbers]


@given(parts_and_numbers())
def test_concatenated_parts_are_numbered_on(drawn: tuple[list[int], list[int]]) -> None:
    sizes, numbers = drawn
    whole = np.arange(sum(sizes) * 12, dtype=np.uint8).reshape(-1, 2, 3, 2)
    split = np.split(whole, np.cumsum(sizes)[:-1])
    parts = Concatenated(tuple(_Held(part) if place % 2 else part for place, part in enumerate(split)))
    assert parts.shape == whole.shape
    assert len(parts) == len(whole)
    asked = np.array(numbers, dtype=np.int64)
    found = parts.take(asked)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, whole[asked])
    found[:] = 0
    np.testing.assert_array_equal(parts.take(asked), whole[asked])
    nested = Concatenated((parts, whole))
    np.testing.assert_array_equal(nested.take(asked + len(whole)), whole[asked])


@pytest.mark.parametrize("number", [-1, 7])
def test_a_number_that_is_not_there_is_refused(number: int) -> None:
    images = np.zeros((4, 2, 2, 1), dtype=np.uint8)
    with pytest.raises(IndexError, match="a set of 7"):
        Concatenated((images, images[:3])).take(np.array([0, number]))


def test_parts_that_are_not_alike_are_refused() -> None:
    images = np.zeros((4, 2, 2, 1), dtype=np.uint8)
    with pytest.raises(ValueError, match="one shape"):
        Concatenated((images, np.zeros((4, 2, 2, 3), dtype=np.uint8)))
    with pytest.raises(ValueError, match="uint8"):
        Concatenated((images, images.astype(np.float32)))


def test_what_fits_in_memory_is_loaded(tmp_path: Path) -> None:
    rows = image_rows(20)
    on_disk = stored(rows, tmp_path)
    size = images_of(rows).nbytes
    assert in_memory(on_disk, (size - 1) / 1e9) is on_disk
    loaded = in_memory(on_disk, size / 1e9)
    np.testing.assert_array_equal(images_of(loaded), images_of(rows))
    assert loaded.labels is rows.labels
    assert in_memory(rows, 0) is rows
    np.testing.assert_array_equal(taken(on_disk.inputs, np.array([19, 0])), images_of(rows)[[19, 0]])


SETTINGS: dict[str, dict[str, Any]] = {
    "fp32 crop_flip": {"augmentation": "crop_flip"},
    "bf16 crop_flip": {"augmentation": "crop_flip", "precision": "bf16"},
    "fp32 none": {},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_training_from_disk_gives_the_weights_of_one_from_memory(setting: str, tmp_path: Path) -> None:
    rows, config = image_rows(), small_config(**SETTINGS[setting])
    expected = fit(rows, config, *DEFENSES, snapshots={2, 6})
    found = fit(stored(rows, tmp_path), config, *DEFENSES, snapshots={2, 6})
    assert found.histories == expected.histories
    assert all(equal_bits(found.weights(epoch), expected.weights(epoch)) for epoch in (2, 6))


def test_a_training_interrupted_in_memory_goes_on_from_disk(tmp_path: Path) -> None:
    rows, config = image_rows(), small_config(augmentation="crop_flip")
    on_disk = stored(rows, tmp_path)
    undisturbed = fit(rows, config, *DEFENSES)
    for first, second in ((rows, on_disk), (on_disk, rows), (on_disk, on_disk)):
        keeper = MemoryKeeper(stop_at=4)
        with pytest.raises(InterruptedRunError):
            fit(first, config, *DEFENSES, keeper=keeper)
        keeper.stop_at = None
        fit(second, config, *DEFENSES, keeper=keeper)
        assert keeper.reported == [1, 2, 3, 4, 5, 6]
        assert equal_bits(keeper.weights(6), undisturbed.weights(6))


@pytest.mark.parametrize("chunk_bytes", [1, 200, 2**22])
def test_statistics_by_chunks_are_those_of_the_whole_bit_for_bit(
    chunk_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (37, 5, 4, 3), dtype=np.uint8)
    counts_CV = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)])
    mean = counts_CV @ (np.arange(256) / 255.0) / counts_CV.sum(axis=1)
    monkeypatch.setattr(loop, "_CHUNK_BYTES", chunk_bytes)
    on_disk = filed(images, tmp_path / "images")
    for found in (input_statistics(images), input_statistics(on_disk)):
        assert found[0].tobytes() == mean.astype(np.float32).tobytes()
        assert found[1].tobytes() == input_statistics(images)[1].tobytes()
        np.testing.assert_allclose(found[1], (images / 255).std(axis=(0, 1, 2)), rtol=1e-6)
    assert sum(count for _, count in on_disk.readings) == 37
    assert max(count for _, count in on_disk.readings) == max(1, min(37, chunk_bytes // 60))


class _Watched:
    """A `Fetch` that counts those of its readings that have begun and not ended."""

    def __init__(self) -> None:
        self.begun = self.open = 0

    def __call__(self, inputs: StoredInputs, shares: Sequence[Numbers]) -> Iterator[NDArray[np.uint8]]:
        self.begun += 1
        self.open += 1
        try:
            yield from in_order(inputs, shares)
        finally:
            self.open -= 1


class _Crash(Defense):
    """Crashes in the second batch."""

    name = "crash"
    steps = 0

    def batch(self, run: Run, batch: Batch) -> Batch:
        self.steps += 1
        if self.steps == 2:
            raise InterruptedRunError
        return batch


def test_a_training_that_ends_ends_its_reading(tmp_path: Path) -> None:
    watched, rows = _Watched(), stored(image_rows(), tmp_path)
    with pytest.raises(InterruptedRunError) as crash:
        fit(rows, small_config(), _Crash(), fetch=watched)
    # The traceback still holds the frames of the loop.
    assert crash.tb is not None
    assert (watched.begun, watched.open) == (2, 0), "one for the statistics, one for the epoch"
    fit(rows, small_config(epochs=2), fetch=watched)
    assert (watched.begun, watched.open) == (5, 0)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> FileImages:
    """300 MB of images."""
    shape = (98_304, 32, 32, 3)
    path = tmp_path_factory.mktemp("large") / "images"
    path.write_bytes(np.random.default_rng(0).bytes(int(np.prod(shape))))
    return FileImages(str(path), shape)


@pytest.mark.parametrize(("where", "least", "most"), [("memory", 0.9, 2.0), ("disk", 0.0, 0.1)])
def test_a_training_from_disk_holds_a_fraction_of_its_set(
    where: str, least: float, most: float, large: FileImages
) -> None:
    """How much higher a process's memory peaks than on an eighth of the set, as a fraction of the set's size."""
    command = [sys.executable, "-m", "tests.training.peak_memory", where, large.path, json.dumps(large.shape)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert least <= float(done.stdout) < most


def test_selected_rows_are_a_copy_in_memory_and_a_view_of_stored_ones() -> None:
    images = images_of(image_rows(10))
    numbers = np.array([7, 2, 2, 9])
    held = selected(images, numbers)
    assert isinstance(held, np.ndarray)
    assert not np.shares_memory(held, images)
    stored = selected(_Held(images), numbers)
    assert not isinstance(stored, np.ndarray)
    assert len(stored) == 4
    assert stored.shape == held.shape
    for wanted in ([0, 1, 2, 3], [3, 0]):
        index = np.array(wanted, dtype=np.int64)
        np.testing.assert_array_equal(stored.take(index), held[index])
    assert pickle.loads(pickle.dumps(stored)).shape == held.shape
