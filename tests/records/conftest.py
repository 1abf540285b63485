"""Small data sets in the forms that users bring."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

WriteParquet = Callable[..., str]


def encode(pixels: Any, form: str = "PNG", mode: str | None = None) -> bytes:
    """An array as the bytes of an image file."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    (image if mode is None else image.convert(mode)).save(
        buffer, form, **({"lossless": True} if form == "WEBP" else {})
    )
    return buffer.getvalue()


def images(count: int, *shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Random images uint8[count, *shape]."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture
def write_parquet(tmp_path: Path) -> WriteParquet:
    """Writes columns as a Parquet file and gives its path."""

    def write(columns: dict[str, Any], *, name: str = "data.parquet", names: Any = None, **options: Any) -> str:
        table = pa.table(columns)
        if names is not None:
            table = table.replace_schema_metadata(
                {"class_names": names if isinstance(names, str) else json.dumps(names)}
            )
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, tmp_path / name, **options)
        return str(tmp_path / name)

    return write
