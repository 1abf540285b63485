"""One folder a class, with its images in it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raymia.errors import InputError
from raymia.records import check_source, load_records
from tests.records.conftest import images

PIXELS = images(9, 4, 4, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Classes ant (5), bee (1), cow (3); files made in an order that is not theirs, and things to pass over."""
    names = [f"{kind}/{name}" for kind, count in (("ant", 5), ("bee", 1), ("cow", 3)) for name in "abcde"[:count]]
    for name, pixels in reversed(list(zip(names, PIXELS, strict=True))):
        path = tmp_path / "data" / f"{name}.{'PNG' if name.endswith('a') else 'webp'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, lossless=True)
    (tmp_path / "data" / "ant" / ".hidden.png").write_text("no image")
    (tmp_path / "data" / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "data" / ".cache").mkdir()
    (tmp_path / "data" / "README.md").write_text("no class")
    return tmp_path / "data"


def test_sorted_classes_and_files(folder: Path) -> None:
    records = load_records(f"{folder}/")
    assert np.array_equal(records.inputs, PIXELS)
    assert records.labels.tolist() == [0, 0, 0, 0, 0, 1, 2, 2, 2]
    assert records.class_names == ("ant", "bee", "cow")
    assert records.source == "image folder data"
    assert check_source(str(folder)) == 9


@pytest.mark.parametrize(
    ("limit", "ids"), [(2, [0, 5]), (4, [0, 1, 5, 6]), (6, [0, 1, 2, 5, 6, 7]), (50, list(range(9)))]
)
def test_limit_takes_classes_by_turns_and_keeps_ids(folder: Path, limit: int, ids: list[int]) -> None:
    records = load_records(str(folder), limit=limit)
    assert records.ids.tolist() == ids
    assert np.array_equal(records.inputs, PIXELS[ids])
    assert records.classes == 3
    assert check_source(str(folder), limit) == len(ids)


def test_refusals(folder: Path, tmp_path: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="'empty' holds no images itself"):
        check_source(str(folder))
    with pytest.raises(InputError, match=r"folder 'data' holds no images itself: give the folder whose subfolders"):
        check_source(str(tmp_path))
    with pytest.raises(InputError, match="neither Parquet files nor one folder a class"):
        check_source(str(folder / "ant"))
    (folder / "empty").rmdir()
    (folder / "cow" / "b.webp").write_bytes(b"junk")
    with pytest.raises(InputError, match="record 7 cannot be used"):
        load_records(str(folder))


def test_one_class(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    Image.fromarray(PIXELS[0]).save(tmp_path / "only" / "a.png")
    with pytest.raises(InputError, match=r"one class \('only'\)"):
        check_source(str(tmp_path))
