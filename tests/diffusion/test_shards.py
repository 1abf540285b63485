"""Shards: any Parquet reader reads them, the same rows give the same bytes, and nothing but those bytes is used."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymia.diffusion.filter import DISAGREES, KEPT, REASONS
from raymia.diffusion.shards import (
    ROW_GROUP,
    ShardSpec,
    conditions_of,
    decode_shard,
    encode_shard,
    find_shard,
    images_of,
    with_images,
    write_shard,
)
from raymia.errors import RunError
from raymia.store import DamagedError, MissingError, Store, file_digest
from tests.diffusion.stubs import CLASSES, SHAPE, Stages, job, pictures


def judged(tmp_path: Path, spec: ShardSpec) -> pa.Table:
    stages = Stages(str(tmp_path / "notes"))
    table: pa.Table = stages.judge()(stages.sample()(spec.asked()))
    return table


@pytest.fixture
def spec(tmp_path: Path) -> ShardSpec:
    """The third shard, ids 400 to 599."""
    return job(Stages(str(tmp_path)), shard_size=200).shard(2)


def test_what_was_judged_is_in_the_file(tmp_path: Path, spec: ShardSpec) -> None:
    rows, store = judged(tmp_path, spec), Store(str(tmp_path))
    report = write_shard(store, spec, rows)
    table = pq.read_table(tmp_path / spec.name)
    assert table.schema.names == ["id", "condition", "label", "confidence", "kept", "reason", "image"]
    wanted = rows.filter(pa.compute.equal(rows["reason"], KEPT))
    kept = table.filter(table["kept"])
    assert kept["id"].to_pylist() == wanted["id"].to_pylist()
    for column in ("condition", "label", "confidence", "image", "reason"):
        assert kept[column].to_pylist() == wanted[column].to_pylist()
    assert np.array_equal(images_of(kept, SHAPE), pictures(kept["id"].to_numpy()))
    assert table["id"].to_pylist() == sorted(table["id"].to_pylist())
    assert table["kept"].to_numpy().nonzero()[0].tolist() == report.rows.tolist()
    assert kept["label"].to_pylist() == report.labels.tolist()
    assert report.sha256 == file_digest((tmp_path / spec.name).read_bytes())
    file = pq.ParquetFile(tmp_path / spec.name)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups - 1)] == [ROW_GROUP] * (
        file.num_row_groups - 1
    )


def test_every_image_is_counted_and_the_first_two_rejected_of_each_class_are_there(
    tmp_path: Path, spec: ShardSpec
) -> None:
    rows = judged(tmp_path, spec)
    expected_KR = np.zeros((CLASSES, len(REASONS)), dtype=int)
    examples: dict[int, list[int]] = {}
    for row in rows.drop(["image"]).to_pylist():
        label = row["condition"] if row["reason"] == DISAGREES else row["label"]
        expected_KR[label, row["reason"]] += 1
        if row["reason"] != KEPT:
            examples.setdefault(label, []).append(row["id"])
    assert (expected_KR > 2).all()  # else this shows little
    content = encode_shard(spec, rows)
    assert decode_shard(spec, content).tally_KR.tolist() == expected_KR.tolist()
    table = pq.read_table(pa.BufferReader(content))
    assert table.filter(pa.compute.invert(table["kept"]))["id"].to_pylist() == sorted(
        number for ids in examples.values() for number in ids[:2]
    )
    drawn = json.loads(table.schema.metadata[b"raymia.drawn"])
    assert drawn == dict(zip(REASONS, expected_KR.T.tolist(), strict=True))


def test_the_schema_says_what_made_it(tmp_path: Path, spec: ShardSpec) -> None:
    metadata = pq.read_schema(pa.BufferReader(encode_shard(spec, judged(tmp_path, spec)))).metadata
    told = {name: metadata[f"raymia.{name}".encode()].decode() for name in ("generator", "guidance", "key", "shard")}
    assert told == {"generator": "g", "guidance": "1.8", "key": "0123456789abcdef", "shard": "2"}
    assert json.loads(metadata[b"raymia.shape"]) == list(SHAPE)
    assert (metadata[b"raymia.first_id"], metadata[b"raymia.count"]) == (b"400", b"200")


def test_the_same_rows_give_the_same_bytes_however_they_come(tmp_path: Path, spec: ShardSpec) -> None:
    rows = judged(tmp_path, spec)
    content = encode_shard(spec, rows)
    pieces = pa.concat_tables([rows.slice(0, 33), rows.slice(33, 100), rows.slice(133)])
    assert encode_shard(spec, pieces) == content
    shuffled = rows.select(sorted(rows.column_names)).replace_schema_metadata({"other": "thing"})
    assert encode_shard(spec, shuffled) == content
    # Of a fresh run it is another file, with the same images.
    assert encode_shard(spec, rows, "run 1") != content


def small(tmp_path: Path) -> tuple[ShardSpec, bytes]:
    spec = job(Stages(str(tmp_path)), shard_size=12).shard(1)
    return spec, encode_shard(spec, judged(tmp_path, spec))


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_changed_byte_anywhere_is_found_and_named(tmp_path: Path, flip: int) -> None:
    spec, content = small(tmp_path)
    decode_shard(spec, content)
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= flip
        with pytest.raises(DamagedError, match=spec.name):
            decode_shard(spec, bytes(damaged))


def test_half_written_and_foreign_files_are_not_used(tmp_path: Path) -> None:
    spec, content = small(tmp_path)
    other = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [1]}), other)
    pieces = [content[:length] for length in range(0, len(content), 7)]
    for wrong in [*pieces, content + b"\n", content + content, b"junk" * 100, other.getvalue().to_pybytes()]:
        with pytest.raises(DamagedError, match=spec.name):
            decode_shard(spec, wrong)


@pytest.mark.parametrize(
    "changes",
    [{"key": "another"}, {"number": 7}, {"first_id": 24}, {"count": 11}, {"classes": 4}, {"conditional": False}],
)
def test_a_whole_shard_of_something_else_is_not_used(tmp_path: Path, changes: dict[str, Any]) -> None:
    spec, content = small(tmp_path)
    with pytest.raises(DamagedError, match="was made by another generator"):
        decode_shard(dataclasses.replace(spec, **changes), content)


def test_a_file_of_another_version_of_the_writer_is_used_for_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, content = small(tmp_path)
    monkeypatch.setattr("raymia.diffusion.shards._WRITER", "pyarrow 99")
    monkeypatch.setattr("raymia.diffusion.shards.ROW_GROUP", 5)
    assert decode_shard(spec, content).rows.size


def test_a_fresh_run_draws_anew(tmp_path: Path) -> None:
    spec, _ = small(tmp_path)
    old, fresh = Store(str(tmp_path)), Store(str(tmp_path), fresh="run 1")
    write_shard(old, spec, judged(tmp_path, spec))
    with pytest.raises(MissingError, match="older than this fresh run"):
        find_shard(fresh, spec)
    written = write_shard(fresh, spec, judged(tmp_path, spec))
    assert find_shard(fresh, spec).sha256 == find_shard(old, spec).sha256 == written.sha256


@pytest.mark.parametrize("wrong", ["order", "missing", "conditions"])
def test_stages_that_give_other_images_are_told_so(tmp_path: Path, spec: ShardSpec, wrong: str) -> None:
    rows = judged(tmp_path, spec)
    if wrong == "order":
        rows = rows.take(np.r_[1, 0, 2 : len(rows)])
    elif wrong == "missing":
        rows = rows.slice(1)
    else:
        rows = rows.set_column(1, "condition", pa.array((rows["condition"].to_numpy() + 1) % CLASSES))
    with pytest.raises(RunError, match="not the 200 asked for"):
        encode_shard(spec, rows)


def test_images_survive_the_table_without_a_copy() -> None:
    spec = ShardSpec("a", "k", 0, 0, 5, SHAPE, CLASSES, conditional=False)
    asked = spec.asked()
    assert conditions_of(asked) is None
    assert conditions_of(dataclasses.replace(spec, conditional=True).asked()).tolist() == [0, 1, 2, 0, 1]  # type: ignore[union-attr]
    images = pictures(np.arange(5))
    table = with_images(asked, images)
    assert np.array_equal(images_of(table, SHAPE), images)
    assert np.shares_memory(images_of(table, SHAPE), images)
    assert np.array_equal(images_of(table.slice(2, 2), SHAPE), images[2:4])
    assert images_of(table.slice(0, 0), SHAPE).shape == (0, *SHAPE)
