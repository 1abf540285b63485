"""Exact copies: a record on both sides of a membership split is a wrong membership label, so only the first stays."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymia.records.dataset import Records
from raymia.records.labels import require_two_classes


def first_of_copies(inputs_N: NDArray[Any]) -> NDArray[np.int64]:
    """int64[kept], ascending: the records that no earlier record equals in every byte."""
    seen: set[bytes] = set()
    kept = []
    for row, record in enumerate(np.ascontiguousarray(inputs_N)):
        digest = hashlib.blake2b(record.data, digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def distinct_records(
    dataset: str,
    inputs: NDArray[np.uint8] | NDArray[np.float32],
    labels: NDArray[np.int64],
    ids: NDArray[np.int64],
    class_names: tuple[str, ...],
    source: str,
) -> Records:
    """The records without exact copies of an earlier one, which are counted; arguments as in `Records`.

    Labels do not matter: of copies that disagree the first stays too, since the others would be wrong on both sides.
    dataset: what the user asked for. Raises InputError where fewer than two classes are left.
    """
    kept = first_of_copies(inputs)
    dropped = len(labels) - len(kept)
    if dropped:
        inputs, labels, ids = inputs[kept], labels[kept], ids[kept]
    require_two_classes(dataset, labels, class_names)
    return Records(inputs, labels, ids, class_names, source, duplicates_dropped=dropped)
