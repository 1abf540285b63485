"""Images at another size, for studies that a machine could not afford at the full one."""

from dataclasses import replace

import numpy as np
from PIL import Image

from raymia.errors import InputError
from raymia.records.dataset import Records


def resized(records: Records, size: int) -> Records:
    """The records as uint8[N, size, size, channels], each pixel the mean of the area it covers (Pillow's BOX filter).

    Raises InputError for feature vectors, and for images smaller than that.
    """
    if not records.is_image:
        raise InputError("data.image_size: these records are feature vectors, which have no size; leave it out")
    height, width = records.inputs.shape[1:3]
    if size > min(height, width):
        raise InputError(
            f"data.image_size: {size} would enlarge images of {height}×{width}; give {min(height, width)} or less"
        )
    shape = (len(records), size, size, records.inputs.shape[3])
    inputs = np.empty(shape, dtype=np.uint8)
    for number, image in enumerate(records.inputs):
        gray = image.shape[2] == 1
        small = Image.fromarray(image[..., 0] if gray else image).resize((size, size), Image.Resampling.BOX)
        inputs[number] = np.asarray(small).reshape(shape[1:])
    return replace(records, inputs=inputs, source=f"{records.source} at {size}×{size}")
