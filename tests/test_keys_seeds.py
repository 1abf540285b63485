"""Names by content, and random streams by name."""

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.keys import array_digest, canonical, content_key
from raymia.seeds import derive_seed, generator

Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def reordered(value: Any) -> Any:
    """The same content, its mappings filled in the opposite order."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(one) for one in value] if isinstance(value, list) else value


@given(Json)
def test_the_order_of_a_mapping_is_no_part_of_a_key(value: Any) -> None:
    assert content_key("a", reordered(value)) == content_key("a", value)


@given(Json, Json)
def test_other_content_has_another_key(one: Any, other: Any) -> None:
    assert (content_key("a", one) == content_key("a", other)) == (canonical(one) == canonical(other))
    assert content_key("a", one) != content_key("b", one)


def test_canonical_text_is_exact() -> None:
    assert canonical({"b": (1, 2.0), "a": None}) == '{"a":null,"b":[1,2.0]}'
    assert canonical(1.0) != canonical(1)
    assert canonical(0.1 + 0.2) == "0.30000000000000004"


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, np.float64, b"x"])
def test_what_json_has_no_form_for_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical(value)


def test_keys_are_the_ones_that_name_artifacts_on_disk() -> None:
    # Known answers: another key would orphan every artifact that users have.
    assert content_key("model", {"a": [1, 0.5, "x"]}) == "2522a0c6f8f7e5a5228694e31867cd8f"
    assert array_digest(np.arange(3, dtype=np.int64)) == "129d7c8430eea69d8dc239e7cde4a457"


def test_an_arrays_digest_sees_type_shape_and_bytes() -> None:
    array = np.arange(6, dtype=np.int64)
    changed = array.copy()
    changed[5] = 7
    others: list[Any] = [array.astype(np.int32), array.reshape(2, 3), changed, array.astype(">i8")]
    digests = [array_digest(one) for one in (array, *others)]
    assert len(set(digests)) == len(digests)
    assert array_digest(np.asfortranarray(array.reshape(2, 3))) == array_digest(array.reshape(2, 3))
    assert array_digest(np.arange(12, dtype=np.int64)[::2]) == array_digest(np.arange(0, 12, 2, dtype=np.int64))


def test_seeds_are_the_ones_that_trained_models_on_disk() -> None:
    assert derive_seed(0, "plan", 3) == 6389082102493755258
    assert derive_seed(7, "model", "target", 0) == 3659632165734506387


def test_a_stream_is_the_same_in_another_process() -> None:
    code = "from raymia.seeds import derive_seed; print(derive_seed(3, 'order', 5))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == derive_seed(3, "order", 5)


Parts = st.lists(st.integers(0, 5) | st.sampled_from(["a", "b", "1"]), max_size=4)


@given(st.integers(0, 3), Parts, st.integers(0, 3), Parts)
def test_every_name_is_a_stream_of_its_own(
    seed: int, stream: list[str | int], other_seed: int, other: list[str | int]
) -> None:
    same = (seed, stream) == (other_seed, other)
    assert (derive_seed(seed, *stream) == derive_seed(other_seed, *other)) == same
    assert 0 <= derive_seed(seed, *stream) < 2**63


def test_types_count() -> None:
    assert derive_seed(0, 1) != derive_seed(0, "1")
    assert derive_seed(0, "a", "b") != derive_seed(0, "ab")


def test_a_generator_repeats_and_its_neighbor_is_independent() -> None:
    draws = generator(0, "order", 1).random(2000)
    np.testing.assert_array_equal(draws, generator(0, "order", 1).random(2000))
    # The correlation of independent streams has a deviation of 1/sqrt(2000) = 0.022.
    assert abs(np.corrcoef(draws, generator(0, "order", 2).random(2000))[0, 1]) < 0.1
