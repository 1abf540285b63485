"""Exact copies are found, the first stays."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raymia.errors import InputError
from raymia.records.copies import distinct_records, first_of_copies


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 30), st.just(2), st.just(1), st.just(1)), elements=st.integers(0, 2))
)
def test_keeps_the_first_of_each_distinct_record(inputs: np.ndarray[Any, Any]) -> None:
    _, first = np.unique(inputs.reshape(len(inputs), -1), axis=0, return_index=True)
    assert first_of_copies(inputs).tolist() == sorted(first.tolist())


def test_copies_with_other_labels_are_dropped_too_and_counted() -> None:
    inputs = np.array([[1], [2], [1], [3], [2], [1]], dtype=np.float32)
    records = distinct_records(
        "x", inputs, np.array([0, 1, 1, 0, 1, 0]), np.array([10, 11, 12, 13, 14, 15]), ("a", "b"), "made"
    )
    assert records.ids.tolist() == [10, 11, 13]
    assert records.labels.tolist() == [0, 1, 0]
    assert records.inputs.ravel().tolist() == [1, 2, 3]
    assert records.duplicates_dropped == 3


def test_refuses_one_class_left() -> None:
    inputs = np.array([[1], [1], [2]], dtype=np.float32)
    with pytest.raises(InputError, match="one class"):
        distinct_records("x", inputs, np.array([0, 1, 0]), np.arange(3), ("a", "b"), "made")
