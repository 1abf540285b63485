"""A synthetic set reads no more than it is asked for, and says what is wrong with a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from raymia.diffusion.drawing import draw_set
from raymia.diffusion.filter import KEPT, Filter, Judged
from raymia.diffusion.shards import ROW_GROUP, class_of
from raymia.store import DamagedError, MissingError, Store
from tests.diffusion.stubs import CLASSES, SHAPE, Stages, job, logits_of, pictures


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "artifacts"))


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(str(tmp_path / "notes"))


def verdicts(count: int, rule: Filter, conditional: bool = True) -> tuple[Judged, NDArray[np.int64]]:
    """Of the first ids, without shards; and the class that each counts under."""
    conditions = np.arange(count) % CLASSES if conditional else np.full(count, -1)
    judged = rule.judge(logits_of(pictures(np.arange(count)), conditions if conditional else None), conditions)
    return judged, class_of(judged.labels, conditions, judged.reason)


def test_only_the_row_groups_needed_are_read(store: Store, stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    found = draw_set(store, job(stages, shard_size=500, per_class=200))
    assert len(found.shards) == 2
    numbers = np.array([599, 3, 230, 3, 231])
    ids = found.ids(store)
    read: list[tuple[Any, Any]] = []
    original = pq.ParquetFile.read_row_groups

    def spy(self: Any, groups: Any, columns: Any = None) -> Any:
        read.append((groups, columns))
        return original(self, groups, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", spy)
    monkeypatch.delattr(pq.ParquetFile, "read")
    assert np.array_equal(found.take(store, numbers), pictures(ids[numbers]))
    places, rows = found.index[np.unique(numbers)].T
    assert read == [
        (sorted({int(row) // ROW_GROUP for row in rows[places == place]}), ["image"]) for place in np.unique(places)
    ]
    assert found.take(store, numbers[:0]).shape == (0, *SHAPE)
    for outside in (-1, 600):
        with pytest.raises(IndexError, match="0 to 599"):
            found.take(store, np.array([outside]))


def test_rejected_examples_are_the_first_of_each_class(store: Store, stages: Stages) -> None:
    found = draw_set(store, job(stages))
    examples = found.rejected_examples(store, 3)
    judged, classes = verdicts(len(found.shards) * 32, stages.rule)
    stored = []  # a shard keeps two of each class
    for start in range(0, len(classes), 32):
        for label in range(3):
            rejected = np.flatnonzero((classes == label) & (judged.reason != KEPT))
            stored += rejected[(rejected >= start) & (rejected < start + 32)][:2].tolist()
    expected = sorted(
        number for label in range(3) for number in [one for one in sorted(stored) if classes[one] == label][:3]
    )
    assert examples.ids.tolist() == expected
    assert examples.labels.tolist() == judged.labels[expected].tolist()
    assert examples.confidences.tolist() == judged.confidence[expected].tolist()
    assert examples.conditions.tolist() == [number % 3 for number in expected]
    assert np.array_equal(examples.images, pictures(np.array(expected)))
    everything = draw_set(store, job(Stages(stages.folder, Filter("condition", 0.0)), folder="synthetic/b"))
    assert everything.rejected_examples(store, 3).images.shape == (0, *SHAPE)


def test_what_is_wrong_with_a_file_is_said_by_its_name(store: Store, stages: Stages) -> None:
    found = draw_set(store, job(stages))
    name = found.shards[1].name
    content = bytearray(store.read_file(name))
    image = pictures(found.ids(store)[found.index[:, 0] == 1][:1]).tobytes()
    content[content.index(image)] ^= 1
    store.write_file(name, bytes(content))
    with pytest.raises(DamagedError, match=name):
        found.images(store)
    store.delete(name)
    with pytest.raises(MissingError, match=name):
        found.labels(store)
