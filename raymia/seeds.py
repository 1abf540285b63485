"""Every random stream comes from (study seed, role, index): never from a worker, a clock or an order."""

import hashlib

import numpy as np


def derive_seed(seed: int, *stream: str | int) -> int:
    """A 63-bit seed for the named stream of a study, e.g. `derive_seed(0, "plan", 3)`.

    Streams with different names are independent; types count, so stream 1 is not stream "1".
    """
    text = repr((int(seed), *stream))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *stream: str | int) -> np.random.Generator:
    """A numpy generator for the named stream of a study."""
    return np.random.default_rng(derive_seed(seed, *stream))
