"""Bytes to pixels, lists to features."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from raymia.records.decode import decode_features, decode_image, decode_images
from tests.records.conftest import encode, images


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF", "PPM"])
def test_lossless_color_images_come_back_exactly(form: str) -> None:
    pixels = images(1, 5, 7, 3)[0]
    decoded = decode_image(encode(pixels, form))
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, pixels)


def test_jpeg_comes_back_nearly() -> None:
    smooth = np.full((8, 8, 3), 90, dtype=np.uint8)
    assert np.abs(decode_image(encode(smooth, "JPEG")).astype(int) - 90).max() <= 2


def test_gray_images_keep_one_channel() -> None:
    pixels = images(1, 4, 6)[0]
    assert np.array_equal(decode_image(encode(pixels)), pixels[:, :, None])
    assert np.array_equal(decode_image(encode(pixels, mode="LA")), pixels[:, :, None])
    assert set(np.unique(decode_image(encode(pixels, mode="1")))) <= {0, 255}


def test_transparency_is_dropped_and_palettes_are_resolved() -> None:
    pixels = images(1, 4, 4, 4)[0]
    assert np.array_equal(decode_image(encode(pixels)), pixels[:, :, :3])
    few = np.repeat(images(1, 1, 4, 3)[0], 4, axis=0)
    palette = Image.fromarray(few).convert("P", palette=Image.Palette.ADAPTIVE)
    for options in ({}, {"transparency": bytes([0, 128, 255, 255])}):
        buffer = io.BytesIO()
        palette.save(buffer, "PNG", **options)
        assert np.array_equal(decode_image(buffer.getvalue()), few)


def test_refuses_sixteen_bit_gray_rather_than_cut_it() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[0, 40000]], dtype=np.uint16)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="8 bits"):
        decode_image(buffer.getvalue())


def truncated_deflate() -> bytes:
    """A PNG whose checksums hold and whose pixel stream does not."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"not deflated") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [b"", b"no image", encode(images(1, 8, 8, 3)[0])[:60], b"RIFF0000WAVEfmt ", b"\xff\xd8\xff", truncated_deflate()],
)
def test_refuses_what_is_no_image(data: bytes) -> None:
    with pytest.raises(ValueError, match="Pillow"):
        decode_image(data)


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"RIFF", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM"])
)
def test_any_bytes_are_an_image_or_a_value_error(data: bytes, start: bytes) -> None:
    with contextlib.suppress(ValueError):  # anything else escapes and fails the test
        assert decode_image(start + data).ndim == 3


def test_one_bad_image_does_not_touch_the_others() -> None:
    good = images(1, 2, 2, 3)[0]

    def unreadable() -> bytes:
        raise PermissionError(13, "Permission denied")

    table = decode_images([encode(good), None, b"x", unreadable, lambda: encode(good)])
    assert table["data"].to_pylist() == [good.tobytes(), b"", b"", b"", good.tobytes()]
    errors = table["error"].to_pylist()
    assert (errors[0], errors[4]) == (None, None)
    assert "no image" in errors[1]
    assert "Permission denied" in errors[3]


LISTS = [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.int16()), pa.list_(pa.float32(), 2)]


@pytest.mark.parametrize("kind", LISTS)
def test_features_of_every_list_type(kind: pa.DataType) -> None:
    column = pa.array([[9, 9], [1, -2], [0, 4]], type=kind).slice(1)
    table = decode_features(column)
    assert [np.frombuffer(row, np.float32).tolist() for row in table["data"].to_pylist()] == [[1, -2], [0, 4]]
    assert table["shape"].to_pylist() == [[2], [2]]
    assert table["error"].null_count == 2


def test_negative_zero_is_zero() -> None:
    table = decode_features(pa.array([[0.0], [-0.0]]))
    assert table["data"][0] == table["data"][1]


def test_bad_features_are_named_by_row() -> None:
    column = pa.array([[1.0, 2.0], None, [], [3.0, None], [float("nan"), 1.0], [1e300, 1.0], [-4.0, 5.0]])
    errors = decode_features(column)["error"].to_pylist()
    assert [error is None for error in errors] == [True, False, False, False, False, False, True]
    assert "no features" in errors[1]
    assert "NaN" in errors[3]
