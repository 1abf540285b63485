"""Reading with Ray Data gives what reading in this process gives."""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image

from raymia.engine.read import _map_over_cluster, read_records
from raymia.errors import InputError, RunError
from raymia.records import load_records, parquet
from tests.records.conftest import encode, images

# Ray Data 2.60 sets deprecated settings of its own each time it makes its default context.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")

PIXELS = images(60, 4, 4, 3)
LABELS = [index % 3 for index in range(60)]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Ray with two CPUs, for this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()


class Collect(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What Ray Data would write to the console."""
    handler = Collect()
    logging.getLogger("ray.data").addHandler(handler)
    yield handler.messages
    logging.getLogger("ray.data").removeHandler(handler)


def test_parquet_in_many_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    for part in range(2):
        rows = slice(part * 30, part * 30 + 30)
        table = pa.table({"image": [encode(pixels) for pixels in PIXELS[rows]], "label": LABELS[rows]})
        pq.write_table(table, tmp_path / f"part{part}.parquet", row_group_size=10)
    alone = load_records(str(tmp_path))
    monkeypatch.setattr(parquet, "CHUNK_ROWS", 4)
    level = logging.getLogger("ray.data").level
    together = read_records(str(tmp_path))
    assert logged == []
    assert logging.getLogger("ray.data").level == level
    assert np.array_equal(together.inputs, PIXELS)
    assert together.labels.tolist() == LABELS
    assert together.fingerprint == alone.fingerprint
    few = read_records(str(tmp_path), limit=33)
    assert np.array_equal(few.inputs, PIXELS[:33])


def test_folder_of_images(tmp_path: Path) -> None:
    for number, pixels in enumerate(PIXELS[:12]):
        path = tmp_path / f"class{number // 4}" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    assert np.array_equal(read_records(str(tmp_path)).inputs, PIXELS[:12])


def test_decodes_in_other_processes_and_keeps_the_order_of_the_chunks(tmp_path: Path) -> None:
    def decode(chunk: int) -> Iterator[pa.Table]:
        """The first chunk ends only after the fourth."""
        (tmp_path / str(chunk)).touch()
        while chunk == 0 and not (tmp_path / "3").exists():
            time.sleep(0.01)
        yield pa.table({"chunk": [chunk], "pid": [os.getpid()]})

    rows = [row for table in _map_over_cluster(decode, range(6)) for row in table.to_pylist()]
    assert [row["chunk"] for row in rows] == list(range(6))
    assert os.getpid() not in {row["pid"] for row in rows}


def test_bad_data_is_named_in_one_line(tmp_path: Path) -> None:
    encoded = [encode(pixels) for pixels in PIXELS]
    encoded[41] = b"junk"
    pq.write_table(pa.table({"image": encoded, "label": LABELS}), tmp_path / "data.parquet", row_group_size=10)
    with pytest.raises(InputError, match="record 41 cannot be used: its bytes are no image"):
        read_records(str(tmp_path / "data.parquet"))


def test_a_worker_that_keeps_dying_ends_the_reading() -> None:
    def decode(chunk: int) -> Iterator[pa.Table]:
        os._exit(3)
        yield pa.table({})

    with pytest.raises(RunError, match="a worker failed while it read the data set") as caught:
        list(_map_over_cluster(decode, [0]))
    assert "\n" not in str(caught.value)


def test_an_error_of_ours_in_a_worker_is_one_line() -> None:
    def decode(chunk: int) -> Iterator[Any]:
        raise ValueError("lost")

    with pytest.raises(RunError, match=r"failed while it read the data set: ValueError: lost$"):
        list(_map_over_cluster(decode, [0]))


def test_built_in_data_needs_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.data, "from_items", None)
    assert len(read_records("digits", limit=20)) == 20
