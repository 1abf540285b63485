"""Reading a data set with Ray Data: files are decoded by tasks, in bounded memory and in the source's order."""

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
from ray.exceptions import RayError

from raymia.engine.streams import RETRIES, one_line, quiet_ray_data, retries_of_a_stage
from raymia.records import Records, load_records
from raymia.records.encoded import Decode


def read_records(
    dataset: str, *, limit: int | None = None, image_size: int | None = None, root: Path | None = None
) -> Records:
    """A data set's records, as `raymia.records.load_records` gives them, with files decoded over the cluster.

    The records do not depend on how many workers decode. Ray is started where it is not running, and only for files.
    Raises InputError for bad data, RunError where a worker fails.
    """
    return load_records(dataset, limit=limit, image_size=image_size, root=root, map_chunks=_map_over_cluster)


def _map_over_cluster(decode: Decode, chunks: Sequence[Any]) -> Iterator[pa.Table]:
    def decode_block(block: pa.Table) -> Iterator[pa.Table]:
        for chunk in block["chunk"].to_pylist():
            yield from decode(pickle.loads(chunk))

    rows = ray.data.from_items([{"chunk": pickle.dumps(chunk)} for chunk in chunks], override_num_blocks=len(chunks))
    rows.context.execution_options.preserve_order = True
    rows.context.enable_progress_bars = False
    with retries_of_a_stage():
        decoded = rows.map_batches(
            decode_block, batch_size=None, batch_format="pyarrow", num_cpus=1, max_retries=RETRIES
        )
    with quiet_ray_data():
        try:
            yield from decoded.iter_batches(batch_size=None, batch_format="pyarrow")
        except RayError as error:
            raise one_line(error, "read the data set") from error
