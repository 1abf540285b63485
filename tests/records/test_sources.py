"""Data sets by name: digits, CIFAR in its on-disk form, names that are none."""

import io
import pickle
import warnings
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from sklearn.datasets import load_digits

from raymia.errors import InputError
from raymia.records import check_source, load_records
from raymia.records.cifar import data_root
from tests.records.conftest import images

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def test_digits() -> None:
    records = load_records("digits")
    assert records.inputs.shape == (len(records), 8, 8, 1)
    assert records.inputs.dtype == np.uint8
    assert len(records) + records.duplicates_dropped == 1797 == check_source("digits")
    assert records.class_names == tuple("0123456789")
    original = load_digits().images[records.ids]
    assert np.array_equal(np.rint(records.inputs[..., 0] * (16 / 255)), original)  # nothing is lost
    assert (records.inputs.min(), records.inputs.max()) == (0, 255)
    assert np.array_equal(records.labels, load_digits().target[records.ids])


def test_limit_of_digits() -> None:
    records = load_records("digits", limit=50)
    assert records.ids.tolist() == list(range(50))
    assert check_source("digits", 50) == 50


@pytest.mark.parametrize("limit", [1, 0, -3])
def test_limit_must_leave_something(limit: int) -> None:
    for function in (load_records, check_source):
        with pytest.raises(InputError, match=r"data\.limit must be 2 or more"):
            function("digits", limit=limit)


def test_unknown_name_and_missing_path(tmp_path: Path) -> None:
    for function in (load_records, check_source):
        with pytest.raises(InputError, match="unknown dataset 'cifar01': did you mean 'cifar10'"):
            function("cifar01")
        with pytest.raises(InputError, match="no such file or folder"):
            function(str(tmp_path / "absent.parquet"))
        with pytest.raises(InputError, match="cannot be looked up"):
            function("nosuch://bucket/x.parquet")


class Python2Pickler(pickle._Pickler):
    """Writes array types as CIFAR's files hold them, with integers for flags (1, as NumPy 2.4.6 minds no 0)."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, np.dtype):
            return np.dtype, (value.str[1:], 1, 1), (3, value.str[0], None, None, None, -1, -1, 0)
        return NotImplemented


def write_batch(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    path.write_bytes(buffer.getvalue())


@pytest.fixture
def trust_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision compares checksums of the real files, which small ones cannot have."""
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, *_: Path(path).exists())


@pytest.mark.usefixtures("trust_files")
def test_cifar10_merges_its_parts(tmp_path: Path) -> None:
    pixels = images(12, 3, 32, 32)
    pixels[11] = pixels[4]  # a test image that also stands in the training set
    base = tmp_path / "cifar-10-batches-py"
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for place, name in enumerate(names):
        rows = slice(place * 2, place * 2 + 2)
        write_batch(base / name, {"data": pixels[rows].reshape(2, -1), "labels": [place, (place + 1) % 10]})
    write_batch(base / "batches.meta", {"label_names": [f"class{number}" for number in range(10)]})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        records = load_records("cifar10", root=tmp_path)
    assert not seen
    assert np.array_equal(records.inputs, pixels[:11].transpose(0, 2, 3, 1))
    assert records.labels.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert records.class_names[9] == "class9"
    assert records.duplicates_dropped == 1
    assert load_records("cifar10", root=tmp_path, limit=3).ids.tolist() == [0, 1, 2]


@pytest.mark.usefixtures("trust_files")
def test_cifar100_takes_the_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = images(6, 3, 32, 32)
    base = tmp_path / "cifar-100-python"
    for name, rows in (("train", slice(0, 4)), ("test", slice(4, 6))):
        fine = [90 + row for row in range(rows.start, rows.stop)]
        write_batch(
            base / name, {"data": pixels[rows].reshape(len(fine), -1), "fine_labels": fine, "coarse_labels": fine}
        )
    write_batch(base / "meta", {"fine_label_names": [f"class{number}" for number in range(100)]})
    monkeypatch.setenv("RAYMIA_DATA", str(tmp_path))
    records = load_records("cifar100")
    assert records.labels.tolist() == [90, 91, 92, 93, 94, 95]
    assert records.classes == 100
    assert np.array_equal(records.inputs, pixels.transpose(0, 2, 3, 1))


def test_cifar_that_cannot_be_downloaded_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_arguments: Any, **_options: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", offline)
    with pytest.raises(InputError, match=r"not downloaded.*RAYMIA_DATA.*Parquet") as caught:
        load_records("cifar10", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYMIA_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_root() == Path("/cache/raymia/data")
    monkeypatch.setenv("RAYMIA_DATA", "/data")
    assert data_root() == Path("/data")


@pytest.mark.skipif(
    not (SHARED / "cifar100.parquet").exists(), reason="the CIFAR Parquet files are not on this machine"
)
@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_parquet(name: str, classes: int) -> None:
    path = str(SHARED / f"{name}.parquet")
    assert check_source(path) == 60_000
    records = load_records(path, limit=1500)
    assert records.inputs.shape[1:] == (32, 32, 3)
    assert records.classes == classes
    assert np.abs(records.inputs.mean(axis=(0, 1, 2)) - [126, 123, 114]).max() < 6
