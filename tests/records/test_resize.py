"""Images made smaller for studies that a machine cannot afford at full size."""

import numpy as np
import pytest

from raymia.errors import InputError
from raymia.records import Records, load_records
from raymia.records.resize import resized


def records_of(images: np.ndarray) -> Records:
    count = len(images)
    return Records(images, np.zeros(count, dtype=np.int64), np.arange(count), ("a", "b"), "made here")


@pytest.mark.parametrize("channels", [1, 3])
def test_each_pixel_is_the_mean_of_the_area_it_covers(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, channels)).astype(np.uint8)
    small = resized(records_of(images), 4)
    assert small.inputs.dtype == np.uint8
    means = images.reshape(5, 4, 2, 4, 2, channels).mean(axis=(2, 4))
    np.testing.assert_allclose(small.inputs, means, atol=1.0)
    assert small.source == "made here at 4×4"


def test_the_size_is_part_of_what_the_data_are() -> None:
    full, same, small = (load_records("digits", limit=20, image_size=size) for size in (None, 8, 4))
    np.testing.assert_array_equal(full.inputs, same.inputs)
    assert small.inputs.shape == (20, 4, 4, 1)
    assert small.fingerprint != full.fingerprint
    np.testing.assert_array_equal(small.labels, full.labels)


def test_enlarging_and_feature_vectors_are_refused() -> None:
    with pytest.raises(InputError, match=r"data\.image_size: 9 would enlarge images of 8×8; give 8 or less"):
        load_records("digits", limit=20, image_size=9)
    with pytest.raises(InputError, match=r"data\.image_size: these records are feature vectors"):
        resized(records_of(np.zeros((3, 5), dtype=np.float32)), 4)
