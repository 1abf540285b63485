"""A synthetic set as a data set of its own: one Parquet file that `--dataset`, and any other tool, reads."""

import io
import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from raymia.diffusion.synthetic_set import SyntheticSet
from raymia.store import Store

_CHUNK = 1024


def export_images(found: SyntheticSet, store: Store, class_names: Sequence[str], path: Path) -> Path:
    """Write columns `id`, `image` (PNG), `label` and `confidence`, with the class names in the schema's metadata.

    In the order of the ids, a few at a time: memory does not grow with the set. The file appears whole or not at all.
    """
    schema = pa.schema(
        [("id", pa.int64()), ("image", pa.binary()), ("label", pa.int64()), ("confidence", pa.float32())],
        metadata={"class_names": json.dumps(list(class_names)), "raymia.key": found.key},
    )
    columns = (found.ids(store), found.labels(store), found.confidences(store))
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with pq.ParquetWriter(partial, schema) as writer:
            for start in range(0, len(found), _CHUNK):
                numbers = np.arange(start, min(start + _CHUNK, len(found)))
                ids, labels, confidences = (values[numbers] for values in columns)
                images = [_png(image) for image in found.take(store, numbers)]
                writer.write_table(pa.table([ids, images, labels, confidences], schema=schema))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(stream, format="PNG")
    return stream.getvalue()
