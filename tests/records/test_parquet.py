"""Parquet files: what is read, in which order, and what is refused before anything is decoded."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.errors import InputError, RunError
from raymia.records import check_source, load_records, parquet
from raymia.records.decode import decode_images
from raymia.records.encoded import EncodedRecords, decode_inputs, in_this_process
from tests.records.conftest import WriteParquet, encode, images

COLOR = images(20, 4, 5, 3)
LABELS = [index % 4 for index in range(20)]


def columns(**changes: Any) -> dict[str, Any]:
    """Twenty color images of four classes, with some columns changed; None drops one."""
    content = {"image": [encode(pixels) for pixels in COLOR], "label": pa.array(LABELS, pa.int32())} | changes
    return {name: column for name, column in content.items() if column is not None}


def refusal(dataset: str, *, checked: bool = True, **options: Any) -> str:
    """The one line, from the check before Ray starts where `checked`, and the same when reading."""
    with pytest.raises(InputError) as caught:
        load_records(dataset, **options)
    message = str(caught.value)
    assert "\n" not in message
    if checked:
        with pytest.raises(InputError) as early:
            check_source(dataset, options.get("limit"))
        assert str(early.value) == message
    else:
        check_source(dataset, options.get("limit"))
    return message


def test_images_labels_and_order(write_parquet: WriteParquet) -> None:
    path = write_parquet(columns(split=["train"] * 20), row_group_size=7)
    records = load_records(path)
    assert records.inputs.dtype == np.uint8
    assert np.array_equal(records.inputs, COLOR)
    assert records.labels.dtype == np.int64
    assert records.labels.tolist() == LABELS
    assert records.ids.tolist() == list(range(20))
    assert records.class_names == ("0", "1", "2", "3")
    assert records.source == "Parquet data.parquet"
    assert check_source(path) == 20


def test_chunks_of_any_size_give_the_same_records(write_parquet: WriteParquet, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(columns(), row_group_size=9)
    whole = load_records(path)
    for chunk_rows, at_once in ((1, 1), (2, 3), (4, 2), (100, 5)):
        monkeypatch.setattr(parquet, "CHUNK_ROWS", chunk_rows)
        monkeypatch.setattr(parquet, "ROWS_AT_ONCE", at_once)
        again = load_records(path)
        assert np.array_equal(again.inputs, COLOR)
        assert again.fingerprint == whole.fingerprint


@given(limit=st.integers(2, 25))
def test_limit_takes_the_first_rows_and_decodes_no_more(limit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("limit")
    for part in range(2):
        rows = slice(part * 10, part * 10 + 10)
        table = pa.table({"image": columns()["image"][rows], "label": LABELS[rows]})
        pa.parquet.write_table(table, folder / f"part{part}.parquet", row_group_size=4)
    decoded: list[int] = []

    def counting(decode: Any, chunks: Sequence[Any]) -> Any:
        for table in in_this_process(decode, chunks):
            decoded.append(len(table))
            yield table

    records = load_records(str(folder), limit=limit, map_chunks=counting)
    assert np.array_equal(records.inputs, COLOR[:limit])
    assert sum(decoded) == min(limit, 20) == check_source(str(folder), limit)
    assert records.class_names == ("0", "1", "2", "3")


def test_parts_are_read_by_name_and_hidden_ones_left(write_parquet: WriteParquet, tmp_path: Path) -> None:
    for name, rows in (("b", slice(0, 5)), ("a", slice(5, 20))):
        write_parquet({key: value[rows] for key, value in columns().items()}, name=f"parts/{name}.parquet")
    (tmp_path / "parts" / "_SUCCESS.parquet").write_bytes(b"")
    records = load_records(f"{tmp_path}/parts/")
    assert np.array_equal(records.inputs, np.concatenate([COLOR[5:], COLOR[:5]]))


def test_struct_of_bytes(write_parquet: WriteParquet) -> None:
    structs: list[Any] = [{"bytes": data, "path": None} for data in columns()["image"]]
    assert np.array_equal(load_records(write_parquet(columns(image=structs))).inputs, COLOR)
    structs[3] = None
    assert "record 3 cannot be used: it has no image" in refusal(write_parquet(columns(image=structs)), checked=False)


def test_gray_stays_gray_and_a_mix_becomes_color(write_parquet: WriteParquet, monkeypatch: pytest.MonkeyPatch) -> None:
    gray = images(20, 4, 5, seed=1)
    encoded = [encode(pixels) for pixels in gray]
    assert np.array_equal(load_records(write_parquet(columns(image=encoded))).inputs, gray[..., None])
    mixed = [*encoded[:7], *columns()["image"][7:12], *encoded[12:]]
    expected = np.repeat(gray[..., None], 3, axis=3)
    expected[7:12] = COLOR[7:12]
    path = write_parquet(columns(image=mixed))
    for rows in (1, 4, 100):
        monkeypatch.setattr(parquet, "ROWS_AT_ONCE", rows)
        assert np.array_equal(load_records(path).inputs, expected)


def test_features(write_parquet: WriteParquet) -> None:
    values = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    records = load_records(write_parquet(columns(image=None, features=values.tolist())))
    assert records.inputs.dtype == np.float32
    assert np.array_equal(records.inputs, values)
    assert not records.is_image


@pytest.mark.parametrize(
    ("labels", "names", "expected", "class_names"),
    [
        (["dog", "cat", "dog", "ape"], None, [2, 1, 2, 0], ("ape", "cat", "dog")),
        (["dog", "cat", "dog", "cat"], ["dog", "eel", "cat"], [0, 2, 0, 2], ("dog", "eel", "cat")),
        ([30, -1, 7, 7], None, [2, 0, 1, 1], ("-1", "7", "30")),
        ([0, 2, 0, 2], ["dog", "eel", "cat"], [0, 2, 0, 2], ("dog", "eel", "cat")),
        ([True, False, True, False], None, [1, 0, 1, 0], ("0", "1")),
        (pa.array(["b", "a", "b", "a"]).dictionary_encode(), None, [1, 0, 1, 0], ("a", "b")),
    ],
)
def test_labels(
    write_parquet: WriteParquet, labels: Any, names: Any, expected: list[int], class_names: tuple[str, ...]
) -> None:
    path = write_parquet({"features": [[1.0], [2.0], [3.0], [4.0]], "label": labels}, names=names)
    records = load_records(path)
    assert records.labels.tolist() == expected
    assert records.class_names == class_names


def test_ids_are_kept(write_parquet: WriteParquet) -> None:
    ids = [100 - index for index in range(20)]
    assert load_records(write_parquet(columns(id=ids))).ids.tolist() == ids


def test_copies_are_dropped_and_counted(write_parquet: WriteParquet) -> None:
    data = columns()["image"]
    data[8], data[13] = data[2], encode(COLOR[2], "WEBP")  # the same pixels in other bytes
    records = load_records(write_parquet(columns(image=data)))
    assert records.duplicates_dropped == 2
    assert records.ids.tolist() == [row for row in range(20) if row not in (8, 13)]


def test_fingerprint_follows_the_records(write_parquet: WriteParquet) -> None:
    first = load_records(write_parquet(columns()))
    assert load_records(write_parquet(columns(), row_group_size=3, compression="zstd")).fingerprint == first.fingerprint
    assert load_records(write_parquet(columns(label=LABELS[::-1]))).fingerprint != first.fingerprint


@pytest.mark.parametrize(
    ("changes", "names", "message"),
    [
        ({"label": None, "target": LABELS}, None, "no column 'label'.*image, target"),
        ({"image": None}, None, "neither an 'image' nor a 'features'"),
        ({"features": [[1.0]] * 20}, None, "both.*drop one"),
        ({"image": ["a"] * 20}, None, "'image' must hold encoded bytes.*string"),
        ({"image": None, "features": [["a"]] * 20}, None, "'features' must hold lists of numbers"),
        ({"label": [0.5] * 20}, None, "'label' must hold integers or strings.*double"),
        ({"label": [*LABELS[:5], None, *LABELS[6:]]}, None, "row 5 has no label"),
        ({"label": [7] * 20}, None, "all 20 records are of one class \\('7'\\)"),
        ({}, ["a", "b"], "label 2 is none of the 2 classes"),
        ({"label": [-1, *LABELS[1:]]}, ["a", "b", "c", "d"], "label -1 is none"),
        ({"label": ["a", "x"] * 10}, ["a", "b"], "label 'x' is none"),
        ({}, ["a", "a"], "class_names must be a JSON list"),
        ({}, "{broken", "class_names must be a JSON list"),
        ({"id": [1, 2, 1, *range(3, 20)]}, None, "id 1 stands more than once"),
        ({"id": [None, *range(19)]}, None, "'id' has missing values"),
        ({"id": ["a"] * 20}, None, "'id' must hold integers"),
        ({"id": pa.array([2**63, *range(19)], pa.uint64())}, None, "'id' cannot be read"),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int32())}, None, "no rows"),
    ],
)
def test_refused_before_anything_is_decoded(
    write_parquet: WriteParquet, changes: dict[str, Any], names: Any, message: str
) -> None:
    path = write_parquet(columns(**changes), names=names)
    with pytest.raises(InputError, match=message):
        check_source(path)
    refusal(path)


@pytest.mark.parametrize(
    ("row", "data", "message"),
    [
        (11, b"junk", "record 111 cannot be used: its bytes are no image"),
        (0, None, "record 100 cannot be used: it has no image"),
        (6, encode(images(1, 4, 6, 3)[0]), "record 106 is 4×6 pixels but the ones before it are 4×5"),
        (6, encode(images(1, 4, 6)[0]), "record 106 is 4×6 pixels"),
    ],
)
def test_refused_images_are_named(write_parquet: WriteParquet, row: int, data: bytes | None, message: str) -> None:
    encoded = columns()["image"]
    encoded[row] = data
    assert message in refusal(write_parquet(columns(image=encoded, id=range(100, 120))), checked=False)


@pytest.mark.parametrize(
    ("row", "values", "message"),
    [
        (3, [1.0], "record 3 is 1 features long but the ones before it are 2 features long"),
        (3, [1.0, float("nan")], "record 3 cannot be used: a feature is missing, NaN or infinite"),
        (3, None, "record 3 cannot be used: it has no features"),
    ],
)
def test_refused_features_are_named(write_parquet: WriteParquet, row: int, values: Any, message: str) -> None:
    features = [[float(index), 1.0] for index in range(20)]
    features[row] = values
    assert message in refusal(write_parquet(columns(image=None, features=features)), checked=False)


def test_of_several_bad_records_the_first_is_named_whatever_the_pieces(
    write_parquet: WriteParquet, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = columns()["image"]
    encoded[5], encoded[4], encoded[9] = b"junk", encode(images(1, 9, 9, 3)[0]), b"junk"
    path = write_parquet(columns(image=encoded))
    for rows in (1, 3, 20):
        monkeypatch.setattr(parquet, "ROWS_AT_ONCE", rows)
        assert "record 4 is 9×9" in refusal(path, checked=False)


def test_limit_of_one_class_names_the_remedy(write_parquet: WriteParquet) -> None:
    path = write_parquet(columns(label=sorted(LABELS)))
    assert "with a limit raise it" in refusal(path, limit=5)
    assert len(load_records(path, limit=6)) == 6


def test_parts_that_differ_are_refused(write_parquet: WriteParquet, tmp_path: Path) -> None:
    write_parquet(columns(), name="parts/a.parquet")
    write_parquet(columns(label=[str(label) for label in LABELS]), name="parts/b.parquet")
    assert "b.parquet has other columns, types or class_names than a.parquet" in refusal(f"{tmp_path}/parts")


def test_no_parquet_file_at_all(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("text")
    assert "x.parquet is no readable Parquet file" in refusal(f"{tmp_path}/x.parquet")


def test_damage_inside_a_file_is_named(write_parquet: WriteParquet) -> None:
    path = write_parquet(columns(), compression="snappy", use_dictionary=False, write_statistics=False)
    content = bytearray(Path(path).read_bytes())
    content[8:60] = os.urandom(52)
    Path(path).write_bytes(content)
    assert "cannot be read from its file" in refusal(path, checked=False)


def test_a_source_that_shrinks_or_grows_while_it_is_read_is_noticed() -> None:
    table = decode_images([encode(pixels) for pixels in COLOR])
    encoded = EncodedRecords(
        "x", np.array(LABELS), np.arange(20), ("0", "1", "2", "3"), "made", (0,), lambda _chunk: iter([table])
    )
    assert np.array_equal(decode_inputs(encoded, in_this_process), COLOR)
    for tables in ([table.slice(1)], [], [table, table.slice(0, 1)]):
        changed = replace(encoded, chunks=tables, decode=lambda table: iter([table]))
        with pytest.raises(RunError, match="changed while it was read"):
            decode_inputs(changed, in_this_process)
