"""Reading arrays: in parts, without unpickling, whatever is wrong with the file."""

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.attacks import ATTACKS, run_attack
from raymia.auditing.evidence import evidence_of
from raymia.auditing.names import LARGE
from raymia.auditing.npz import read_npz
from raymia.auditing.stored_array import StoredArray, parts_of
from raymia.errors import InputError
from tests.auditing.given import target_only, whole, write

CUBE = np.random.default_rng(0).normal(size=(3, 7, 2, 4))


def saved(array: NDArray[Any], **more: NDArray[Any]) -> StoredArray:
    found = read_npz(Path(write({"before": np.arange(3), "large": array, **more})), {"large"})["large"]
    assert isinstance(found, StoredArray)
    return found


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_a_stored_array_is_read_as_numpy_reads_it(dtype: str) -> None:
    stored = saved(CUBE.astype(dtype))
    assert (stored.shape, stored.dtype) == (CUBE.shape, np.dtype(dtype))
    parts = parts_of(stored)
    for part, expected in zip(parts, CUBE.astype(dtype), strict=True):
        assert np.array_equal(part[:], expected)
        assert np.array_equal(part[2:5], expected[2:5])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-7, 6), max_size=9), st.integers(0, 2))
def test_any_rows_come_in_their_order(rows: list[int], model: int) -> None:
    numbers = np.array(rows, dtype=np.int64)
    assert np.array_equal(saved(CUBE).part(model)[numbers], CUBE[model][numbers])


def test_compressed_and_fortran_arrays_are_loaded() -> None:
    np.savez_compressed("compressed.npz", large=CUBE)
    np.savez("fortran.npz", large=np.asfortranarray(CUBE))
    for name in ("compressed.npz", "fortran.npz"):
        array = read_npz(Path(name), {"large"})["large"]
        assert isinstance(array, np.ndarray)
        assert np.array_equal(array, CUBE)


class Payload:
    """What would leave a file behind when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("unpickled"),)


@pytest.mark.parametrize("stored", [set(), {"target_logits"}])
def test_a_pickle_is_refused_unread(stored: set[str], folder: Path) -> None:
    path = Path(write({"target_logits": np.array([Payload()], dtype=object)}))
    with pytest.raises(InputError, match="target_logits holds Python objects, which could run code"):
        read_npz(path, stored)
    assert not (folder / "unpickled").exists()


def test_damage_is_seen(folder: Path) -> None:
    path = Path(write(whole(records=20)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"\.npy is damaged; write the file anew"):
        read_npz(path, LARGE)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="is no readable npz file"):
        read_npz(path, LARGE)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("target_logits.npy", b"no array")
    with pytest.raises(InputError, match="is no readable npz file"):
        read_npz(path, LARGE)


def test_references_are_audited_without_being_kept_in_memory() -> None:
    rng = np.random.default_rng(0)
    records, models = 20_000, 40
    arrays = target_only(whole(records=records, queries=1))
    inside = np.stack([rng.permutation(np.arange(records) % 2 == 0) for _ in range(models)])
    arrays |= {"reference_logits": rng.normal(size=(models, records, 1, 5)), "reference_member": inside}
    path = Path(write(arrays))
    size = arrays["reference_logits"].nbytes  # 32 MB in float64
    del arrays
    tracemalloc.start()
    try:
        evidence = evidence_of(read_npz(path, LARGE), {}, probabilities=False, equalize=False, seed=0)
        run_attack(ATTACKS["lira_online"], evidence.view, evidence.target, rng)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.75 * size  # confidences of all records (6 MB in float64) and blocks; loaded twice it would be 48 MB
