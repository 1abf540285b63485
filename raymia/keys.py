"""Names by content: the same settings, data and code version give the same key, anything else another."""

import hashlib
import json
from typing import Any

import numpy as np


def canonical(value: Any) -> str:
    """JSON with sorted keys and shortest exact floats: equal values, equal text.

    Tuples are lists; an integral float stays a float (1.0 is not 1). Raises TypeError for what JSON has no form for.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(kind: str, content: Any) -> str:
    """32 hex digits that name an artifact of this kind with this content."""
    return hashlib.sha256(f"{kind}:{canonical(content)}".encode()).hexdigest()[:32]


def array_digest(array: np.ndarray[Any, Any]) -> str:
    """Hex digest of an array's type, shape and bytes."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]
