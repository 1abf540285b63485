"""Reading a data set with Ray Data: files are decoded by tasks, in bounded memory and in the source's order."""

import logging
import pickle
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data
from ray.exceptions import RayError

from raymia.errors import RunError
from raymia.records import Records, load_records
from raymia.records.encoded import Decode

RETRIES = 3  # of a worker that dies; Ray Data's own number is infinite, so bytes that crash a decoder would never end


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
    with warnings.catch_warnings():
        # Ray 2.60 has no other way to bound the retries of one stage, and this one works up to 2.63.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        decoded = rows.map_batches(
            decode_block, batch_size=None, batch_format="pyarrow", num_cpus=1, max_retries=RETRIES
        )
    with _quiet_ray_data():
        try:
            yield from decoded.iter_batches(batch_size=None, batch_format="pyarrow")
        except RayError as error:
            cause = getattr(error, "cause", None) or error
            reason = (str(cause).splitlines() or ["no reason given"])[0]  # Ray adds lines of advice
            raise RunError(f"a worker failed while it read the data set: {type(cause).__name__}: {reason}") from error


@contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Keep Ray Data's plans, advice and tracebacks off the console (no setting does); errors are raised."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
