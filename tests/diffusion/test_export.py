"""A synthetic set written out is a data set like any other."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymia.diffusion.drawing import ShardJob, Stage, draw_set
from raymia.diffusion.export import export_images
from raymia.diffusion.filter import Filter
from raymia.diffusion.shards import conditions_of, with_images, with_verdicts
from raymia.records import load_records
from raymia.store import Store

CLASSES = 3


def a_job(channels: int) -> ShardJob:
    """Random images, all kept, each of the class it was drawn for."""

    def sample() -> Stage:
        def stage(asked: pa.Table) -> pa.Table:
            shape = (8, 8, channels)
            drawn = [np.random.default_rng(number).integers(0, 256, shape) for number in asked["id"].to_numpy()]
            return with_images(asked, np.stack(drawn).astype(np.uint8))

        return stage

    def judge() -> Stage:
        def stage(drawn: pa.Table) -> pa.Table:
            conditions = conditions_of(drawn)
            logits_NK = np.random.default_rng(0).normal(size=(len(drawn), CLASSES)).astype(np.float32)
            return with_verdicts(drawn, Filter("condition", 0.0).judge(logits_NK, conditions))

        return stage

    return ShardJob("synthetic/a", "key", 10, (8, 8, channels), CLASSES, True, 7, 100, sample, judge)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_exported_is_read_back_as_records(tmp_path: Path, channels: int) -> None:
    store = Store(str(tmp_path / "artifacts"))
    found = draw_set(store, a_job(channels))
    names = [f"class {label}" for label in range(CLASSES)]
    path = export_images(found, store, names, tmp_path / "images.parquet")
    records = load_records(str(path))
    np.testing.assert_array_equal(records.inputs, found.images(store))
    np.testing.assert_array_equal(records.labels, found.labels(store))
    np.testing.assert_array_equal(records.ids, found.ids(store))
    assert records.class_names == tuple(names)
    np.testing.assert_array_equal(pq.read_table(path)["confidence"].to_numpy(), found.confidences(store))
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
