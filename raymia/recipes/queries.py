"""What a model is asked about one record: the record itself, and changed copies of it."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raymia.errors import InputError

Query = Literal["identity", "flip", "shifts"]
Images = NDArray[np.uint8]


def asked(inputs: NDArray[np.uint8] | NDArray[np.float32], queries: tuple[Query, ...]) -> list[NDArray[np.generic]]:
    """The records in each form in which they are asked, in the order of the queries.

    inputs: uint8[N, H, W, channels] or float32[N, F]. `identity`: as they are. `flip`: mirrored left-right. `shifts`:
    four forms, moved up, down, left and right by an eighth of the side (4 pixels of 32) over zeros, as the augmentation
    `crop_flip` moves them at most.
    """
    return [form for query in queries for form in _forms(inputs, query)]


def check_queries(queries: tuple[Query, ...], input_shape: tuple[int, ...]) -> None:
    """Raise InputError for queries that do not begin with `identity`, are repeated, or need images."""
    if not queries or queries[0] != "identity" or len(set(queries)) < len(queries):
        raise InputError(f"queries: {list(queries)}; begin with identity and give each once")
    if len(input_shape) == 1 and len(queries) > 1:
        raise InputError(f"queries: {queries[1]} needs images, the records are feature vectors; give identity alone")


def _forms(inputs: NDArray[np.uint8] | NDArray[np.float32], query: Query) -> list[NDArray[np.generic]]:
    if query == "identity":
        return [inputs]
    if query == "flip":
        return [inputs[:, :, ::-1]]
    side = min(inputs.shape[1:3])
    step = max(side // 8, 1)
    return [_shifted(inputs, axis, by) for axis in (1, 2) for by in (-step, step)]


def _shifted(inputs: NDArray[np.uint8] | NDArray[np.float32], axis: int, by: int) -> NDArray[np.generic]:
    moved = np.roll(inputs, by, axis)
    emptied = [slice(None)] * inputs.ndim
    emptied[axis] = slice(0, by) if by > 0 else slice(by, None)
    moved[tuple(emptied)] = 0
    return moved
