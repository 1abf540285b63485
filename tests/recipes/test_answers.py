"""Answers in the store, read whole and in parts; what a model is asked."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.errors import InputError
from raymia.recipes.answers import StoredAnswers, pack_answers, unpack_answers
from raymia.recipes.queries import asked, check_queries
from raymia.store import DamagedError, MissingError, Store

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(60, 2, 5)).astype(np.float32)
LABELS = RNG.integers(0, 5, 60)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("answers")))
    payload, meta = pack_answers(LOGITS, LABELS)
    store.write("signals/a", payload, {**meta, "seconds": 1.0})
    return store


def test_a_whole_artifact_comes_back_bit_for_bit(store: Store) -> None:
    logits, labels = unpack_answers(*store.read("signals/a"))
    assert (logits.dtype, labels.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(logits, LOGITS)
    np.testing.assert_array_equal(labels, LABELS)


@given(rows=st.lists(st.integers(0, 59), max_size=20))
def test_any_rows_come_in_their_order(store: Store, rows: list[int]) -> None:
    numbers = np.array(rows, dtype=np.int64)
    np.testing.assert_array_equal(StoredAnswers.open(store, "signals/a")[numbers], LOGITS[numbers])


@given(start=st.integers(0, 60), size=st.integers(0, 60))
def test_slices_are_slices(store: Store, start: int, size: int) -> None:
    rows = slice(start, start + size)
    np.testing.assert_array_equal(StoredAnswers.open(store, "signals/a")[rows], LOGITS[rows])


def test_a_part_is_a_copy_that_may_be_written(store: Store) -> None:
    answers = StoredAnswers.open(store, "signals/a")
    answers[slice(0, 3)][:] = 7
    np.testing.assert_array_equal(answers[slice(0, 3)], LOGITS[:3])


def test_only_the_rows_between_the_first_and_the_last_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    read = Store.read_part

    def watched(self: Store, name: str, start: int, size: int) -> bytes:
        sizes.append(size)
        return read(self, name, start, size)

    monkeypatch.setattr(Store, "read_part", watched)
    answers = StoredAnswers.open(store, "signals/a")
    np.testing.assert_array_equal(answers[np.array([9, 5, 7])], LOGITS[[9, 5, 7]])
    assert sizes == [5 * 2 * 5 * 4]


def test_a_file_that_was_cut_is_noticed(store: Store) -> None:
    payload, meta = pack_answers(LOGITS, LABELS)
    store.write("signals/cut", payload, meta)
    answers = StoredAnswers.open(store, "signals/cut")
    path = Path(store.root) / "signals/cut"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DamagedError):
        answers[slice(0, 60)]
    with pytest.raises(MissingError):
        StoredAnswers.open(store, "signals/none")


def test_the_forms_of_an_image() -> None:
    images = RNG.integers(1, 256, (3, 16, 16, 1)).astype(np.uint8)
    forms = asked(images, ("identity", "flip", "shifts"))
    assert len(forms) == 6
    np.testing.assert_array_equal(forms[0], images)
    np.testing.assert_array_equal(forms[1], images[:, :, ::-1])
    up, down, left, right = forms[2:]
    np.testing.assert_array_equal(up[:, :14], images[:, 2:])
    np.testing.assert_array_equal(down[:, 2:], images[:, :14])
    np.testing.assert_array_equal(left[:, :, :14], images[:, :, 2:])
    np.testing.assert_array_equal(right[:, :, 2:], images[:, :, :14])
    for edge in (up[:, 14:], down[:, :2], left[:, :, 14:], right[:, :, :2]):
        assert not edge.any()


def test_queries_that_cannot_be_asked_are_refused() -> None:
    check_queries(("identity", "shifts"), (3, 32, 32))
    check_queries(("identity",), (10,))
    with pytest.raises(InputError, match="begin with identity"):
        check_queries(("flip",), (3, 32, 32))
    with pytest.raises(InputError, match="give each once"):
        check_queries(("identity", "flip", "flip"), (3, 32, 32))
    with pytest.raises(InputError, match="flip needs images"):
        check_queries(("identity", "flip"), (10,))
