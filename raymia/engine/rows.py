"""Training sets that do not fit in memory, read ahead of the training by Ray Data."""

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray
from ray.exceptions import RayError

from raymia.engine.streams import RETRIES, one_line, quiet_ray_data, retries_of_a_stage
from raymia.training.rows import Numbers, StoredInputs

TASK_BYTES = 2**23  # of images that a task reads: some 20 batches of CIFAR's, so that its start does not count
READERS = 2  # tasks at a time


def fetch_on_cluster(inputs: StoredInputs, shares: Sequence[Numbers]) -> Iterator[NDArray[np.uint8]]:
    """The images of each share of row numbers, in the shares' order (see `raymia.training.rows.Fetch`).

    Tasks read them ahead, by some tens of MiB however slow the training. They take no CPU: where Ray Train's workers
    hold them all, a task that wanted one would never start. Raises what `inputs` raises, and RunError where a reader
    keeps dying.
    """
    # The rest of what has come; an array of ours, since what lies in the object store can be neither written nor freed.
    held = np.empty((0, *inputs.shape[1:]), dtype=np.uint8)
    with quiet_ray_data(), closing(_blocks(inputs, shares)) as blocks:
        try:
            for share in shares:
                while len(held) < len(share):
                    held = np.concatenate([held, next(blocks)])
                yield held[: len(share)]
                held = held[len(share) :]
        except RayError as error:
            raise one_line(error, "read the training set") from error


def _blocks(inputs: StoredInputs, shares: Sequence[Numbers]) -> Generator[NDArray[np.uint8], None, None]:
    """The images of all shares, one after the other, as many together as a task reads."""
    reference = ray.put(inputs)
    numbers = np.concatenate(shares)
    size = max(1, TASK_BYTES // math.prod(inputs.shape[1:]))

    def read(wanted: dict[str, Numbers]) -> Iterator[dict[str, Any]]:
        yield {"image": ray.get(reference).take(np.array(wanted["number"]))}

    parts = np.split(numbers, range(size, len(numbers), size))
    rows = ray.data.from_blocks([pa.table({"number": part}) for part in parts])
    rows.context.enable_progress_bars = False
    options = rows.context.execution_options
    options.preserve_order = True
    options.resource_limits = ray.data.ExecutionResources.for_limits(object_store_memory=TASK_BYTES)
    with retries_of_a_stage():
        images = rows.map_batches(
            read,
            batch_size=None,
            batch_format="numpy",
            compute=ray.data.TaskPoolStrategy(size=min(READERS, len(parts))),
            num_cpus=0,
            max_retries=RETRIES,
        )
    for block in images.iter_batches(batch_size=None, batch_format="numpy"):
        yield block["image"]
