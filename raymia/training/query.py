"""Randomness of an answer that its query decides: asked again, a model answers the same, and nothing averages out."""

import hashlib
from collections.abc import Iterator

import numpy as np
from torch import Tensor


def query_streams(inputs: Tensor, key: int = 0) -> Iterator[np.random.Generator]:
    """A random stream for each record of a batch float[B, ...]: of its values and `key`, whatever stands beside it.

    A query that differs in its last bit draws anew.
    """
    salt = key.to_bytes(8, "big", signed=True)
    for record in inputs.detach().cpu().numpy():
        digest = hashlib.sha256(salt + record.tobytes()).digest()
        yield np.random.default_rng(int.from_bytes(digest[:8], "big"))
