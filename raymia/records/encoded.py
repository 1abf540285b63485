"""Records whose inputs are still encoded, and how they become arrays: in bounded pieces, in the source's order."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raymia.errors import InputError, RunError

Decode = Callable[[Any], Iterator[pa.Table]]
# Applies a Decode to every chunk and gives its tables in the chunks' order, e.g. over a cluster.
MapChunks = Callable[[Decode, Sequence[Any]], Iterable[pa.Table]]


@dataclass(frozen=True)
class EncodedRecords:
    """N labeled records, checked as far as their inputs need not be decoded.

    dataset: what the user asked for. labels: int64[N], in 0..K-1. ids: int64[N]. class_names: K names. source: where
    they come from, in words. chunks: pieces of the source, in order and together the N records. decode: one chunk to
    tables of `decode.DECODED`; it may be sent to another process.
    """

    dataset: str
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    class_names: tuple[str, ...]
    source: str
    chunks: Sequence[Any]
    decode: Decode


def in_this_process(decode: Decode, chunks: Sequence[Any]) -> Iterator[pa.Table]:
    """The plain MapChunks: one chunk after the other."""
    for chunk in chunks:
        yield from decode(chunk)


def decode_inputs(encoded: EncodedRecords, map_chunks: MapChunks) -> NDArray[np.uint8] | NDArray[np.float32]:
    """uint8[N, H, W, channels] or float32[N, F]; channels is 1 only where every image is gray.

    Raises InputError that names the first record that cannot be decoded, or whose shape is not the first one's.
    """
    inputs: NDArray[Any] | None = None
    filled = 0
    changed = RunError(f"dataset {encoded.dataset} changed while it was read: run again when nothing writes to it")
    for table in map_chunks(encoded.decode, encoded.chunks):
        if not len(table):
            continue
        if filled + len(table) > len(encoded.labels):
            raise changed
        shapes = table["shape"].to_pylist()
        expected = shapes[0] if inputs is None else inputs.shape[1:]
        _check_table(encoded, table, shapes, filled, tuple(expected))
        inputs = _room_for(inputs, len(encoded.labels), filled, shapes)
        _place(inputs, filled, table["data"].combine_chunks(), shapes)
        filled += len(table)
    if inputs is None or filled != len(encoded.labels):
        raise changed
    return inputs


def _check_table(
    encoded: EncodedRecords, table: pa.Table, shapes: list[list[int]], start: int, expected: tuple[int, ...]
) -> None:
    """Report the first record in order that has an error or another height and width, or number of features."""
    for row, (error, shape) in enumerate(zip(table["error"].to_pylist(), shapes, strict=True)):
        record = f"dataset {encoded.dataset}: record {encoded.ids[start + row]}"
        if error is not None:
            raise InputError(f"{record} cannot be used: {error}; repair it or leave it out")
        if tuple(shape[:2]) != expected[:2]:
            raise InputError(
                f"{record} is {_size(shape)} but the ones before it are {_size(expected)}: bring all to one size"
            )


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} features long" if len(shape) == 1 else f"{shape[0]}×{shape[1]} pixels"


def _room_for(inputs: NDArray[Any] | None, records: int, filled: int, shapes: list[list[int]]) -> NDArray[Any]:
    """The array to fill: made at the first table, widened from gray to color at the first color image."""
    widest = max(shapes)
    if inputs is None:
        return np.empty((records, *widest), dtype=np.float32 if len(widest) == 1 else np.uint8)
    if tuple(widest) <= inputs.shape[1:]:
        return inputs
    wider = np.empty((records, *widest), dtype=inputs.dtype)
    wider[:filled] = inputs[:filled]
    return wider


def _place(inputs: NDArray[Any], start: int, data: pa.LargeBinaryArray, shapes: list[list[int]]) -> None:
    """Write decoded records into their rows; a gray image fills all three channels of a color row."""
    offsets = np.frombuffer(data.buffers()[1], dtype=np.int64)[data.offset : data.offset + len(data) + 1]
    values = np.frombuffer(data.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]].view(inputs.dtype)
    stop = start + len(data)
    if all(shape == shapes[0] for shape in shapes):
        inputs[start:stop] = values.reshape(len(data), *shapes[0])
        return
    bounds = (offsets - offsets[0]) // inputs.dtype.itemsize
    for row, shape in enumerate(shapes):
        inputs[start + row] = values[bounds[row] : bounds[row + 1]].reshape(shape)
