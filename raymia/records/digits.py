"""scikit-learn's digits: 1,797 gray images of 8×8, part of the library, so nothing is downloaded."""

import numpy as np

from raymia.records.copies import distinct_records
from raymia.records.dataset import Records

DIGITS = 1797


def digits_records(limit: int | None) -> Records:
    """The digits as uint8[N, 8, 8, 1]: their 17 levels 0..16 spread over 0..255."""
    from sklearn.datasets import load_digits

    images, labels = load_digits().images[:limit], load_digits().target[:limit]
    pixels = np.rint(images * (255 / 16)).astype(np.uint8)[..., None]
    names = tuple(str(digit) for digit in range(10))
    ids = np.arange(len(labels), dtype=np.int64)
    return distinct_records("digits", pixels, labels.astype(np.int64), ids, names, "scikit-learn digits")
