"""A model's answers in the store, laid out so that a part of the records can be read without the rest."""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymia.attacks.references import Rows
from raymia.store import Store

_ITEM = np.dtype("<f4")


def pack_answers(logits_NQC: NDArray[np.float32], labels_N: NDArray[np.int64]) -> tuple[bytes, dict[str, Any]]:
    """Payload and meta of an artifact: the labels as npy, then the logits as plain little-endian float32 in C order."""
    head = io.BytesIO()
    np.save(head, labels_N.astype(np.int64), allow_pickle=False)
    payload = head.getvalue() + np.ascontiguousarray(logits_NQC, dtype=_ITEM).tobytes()
    return payload, {"shape": list(logits_NQC.shape), "logits_at": len(head.getvalue())}


def unpack_answers(payload: bytes, meta: Mapping[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The logits float32[N, Q, C] and labels int64[N] of a whole payload."""
    at = int(meta["logits_at"])
    labels_N = np.load(io.BytesIO(payload[:at]), allow_pickle=False)
    return np.frombuffer(payload, _ITEM, offset=at).reshape(meta["shape"]).astype(np.float32), labels_N


@dataclass(frozen=True)
class StoredAnswers:
    """Answers float32[N, Q, C] that stay in the store (a `raymia.attacks.Answers`).

    Parts are read without a look at the checksum: whoever opens them has checked the artifact.
    """

    store: Store
    name: str
    shape: tuple[int, ...]
    first_byte: int

    @classmethod
    def open(cls, store: Store, name: str) -> "StoredAnswers":
        """Raises MissingError or DamagedError."""
        meta, payload = store.look(name)
        return cls(store, name, tuple(meta["shape"]), payload + int(meta["logits_at"]))

    def __getitem__(self, rows: Rows) -> NDArray[np.float32]:
        """A copy of these records' answers, in their order."""
        numbers = np.arange(self.shape[0])[rows]
        if not len(numbers):
            return np.zeros((0, *self.shape[1:]), np.float32)
        first, last = int(numbers.min()), int(numbers.max())
        size = math.prod(self.shape[1:]) * _ITEM.itemsize
        part = self.store.read_part(self.name, self.first_byte + first * size, (last - first + 1) * size)
        return np.frombuffer(part, _ITEM).reshape(-1, *self.shape[1:])[numbers - first].astype(np.float32)
