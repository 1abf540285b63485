"""Encoded inputs to arrays: images by Pillow, feature lists by Arrow. No record depends on another here.

Decoded records travel as Arrow tables of `DECODED`: the bytes of the array, its shape, and in words why a record could
not be decoded (its bytes are then empty). So one bad record is named by its place, whoever decoded it.
"""

import io
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

DECODED = pa.schema([("data", pa.large_binary()), ("shape", pa.list_(pa.int32())), ("error", pa.string())])

# First bytes of the usual formats; a RIFF file may be something else than WebP, and is then no image to Pillow either.
FORMATS = {b"\xff\xd8\xff": ("JPEG",), b"\x89PNG": ("PNG",), b"RIFF": ("WEBP",)}


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """uint8[H, W, 1] of a gray image, else uint8[H, W, 3]. Transparency is dropped; an animation is its first frame.

    Raises ValueError that says why the bytes are no image of 8 bits a channel.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_formats(data))
        image.load()
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error and more
        raise ValueError("its bytes are no image that Pillow can decode") from error
    if image.mode == "F" or image.mode.startswith("I"):
        raise ValueError("it has more than 8 bits a channel, which would be cut: save it with 8")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    gray = image.mode in ("1", "L", "LA", "La")
    wanted = "L" if gray else "RGB"
    pixels = np.asarray(image if image.mode == wanted else image.convert(wanted))
    return pixels[:, :, None] if gray else pixels


def _formats(data: bytes) -> tuple[str, ...] | None:
    """The format that the first bytes tell, or None to let Pillow try all: that doubles the time of a 32×32 image."""
    return next((formats for start, formats in FORMATS.items() if data.startswith(start)), None)


def decode_images(encoded: Iterable[bytes | Callable[[], bytes] | None]) -> pa.Table:
    """Images as a `DECODED` table. An image is its bytes, or a function that reads them, or None for a missing one."""
    data: list[bytes] = []
    shapes: list[tuple[int, ...]] = []
    errors: list[str | None] = []
    for item in encoded:
        pixels, error = _try_image(item)
        data.append(pixels.tobytes())
        shapes.append(pixels.shape)
        errors.append(error)
    return pa.table([data, shapes, errors], schema=DECODED)


def _try_image(item: bytes | Callable[[], bytes] | None) -> tuple[NDArray[np.uint8], str | None]:
    nothing = np.zeros((0, 0, 0), dtype=np.uint8)
    if item is None:
        return nothing, "it has no image"
    try:
        return decode_image(item() if callable(item) else item), None
    except ValueError as error:
        return nothing, str(error)
    except OSError as error:
        return nothing, f"its file cannot be read ({error.strerror or error})"


def undecodable(error: str) -> pa.Table:
    """A `DECODED` table of one record that stands for a piece of a file that cannot be read."""
    return pa.table([[b""], [[0]], [error]], schema=DECODED)


def decode_features(column: pa.Array) -> pa.Table:
    """Lists of numbers as a `DECODED` table of float32[F] each; a value missing or not finite in float32 is an error.

    Negative zeros become zeros, so that equal inputs have equal bytes.
    """
    lists = column.cast(pa.large_list(pa.float64()))
    offsets = lists.offsets.to_numpy()
    with np.errstate(over="ignore"):
        values = lists.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]].astype(np.float32)
    values += 0  # makes -0.0 into 0.0
    offsets = offsets - offsets[0]
    errors: list[str | None] = [None] * len(lists)
    for row in np.searchsorted(offsets, np.flatnonzero(~np.isfinite(values)), side="right") - 1:
        errors[row] = "a feature is missing, NaN or infinite"
    for row in np.flatnonzero(np.diff(offsets) == 0):
        errors[row] = "it has no features"
    data = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(lists), [None, pa.py_buffer(offsets * values.itemsize), pa.py_buffer(values)]
    )
    return pa.table([data, [[size] for size in np.diff(offsets).tolist()], errors], schema=DECODED)
