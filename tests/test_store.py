"""Artifacts on disk: whole or not at all, and never silently damaged."""

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raymia.store import DamagedError, Inspection, MissingError, Store, file_digest

META = {"seconds": 1.5, "history": [2.25, 1e-7], "label": 'mixup α=0.3 "quoted"', "none": None}
PAYLOAD = b"first line\nsecond \x00\xff line" * 3


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "artifacts"))


def file_of(store: Store, name: str) -> Path:
    return Path(store.root) / name


@pytest.mark.parametrize("payload", [b"", b"\n", PAYLOAD, bytes(range(256)) * 9000])
def test_what_is_written_is_read_back(store: Store, payload: bytes) -> None:
    store.write("models/a/epoch-0001", payload, META)
    assert store.read("models/a/epoch-0001") == (payload, META)
    assert store.meta("models/a/epoch-0001") == META


def test_a_second_write_replaces_the_first(store: Store) -> None:
    store.write("a/b", b"long first payload", {})
    store.write("a/b", b"short", META)
    assert store.read("a/b") == (b"short", META)
    assert [name for name, _ in store.names()] == ["a/b"]


def test_the_format_on_disk_stays(store: Store) -> None:
    """Artifacts that users have must stay readable: this is the first format, byte for byte."""
    store.write("a/b", b"payload", {"x": 1})
    digest = hashlib.sha256(b'{"x": 1}payload').hexdigest()
    header = f'{{"sha256": "{digest}", "size": 7, "meta": {{"x": 1}}, "fresh": null}}'
    assert file_of(store, "a/b").read_bytes() == f"raymia-artifact-1 {header}\npayload".encode()


def test_what_is_not_there_is_missing_by_name(store: Store) -> None:
    for ask in (store.read, store.meta):
        with pytest.raises(MissingError, match="no artifact a/b"):
            ask("a/b")
    store.delete("a/b")


def test_names_and_sizes_are_listed_and_deleting_takes_one(store: Store) -> None:
    assert list(store.names()) == []
    store.write("models/a", b"1", {})
    store.write("models/deep/b", b"22", {})
    assert dict(store.names()) == {name: file_of(store, name).stat().st_size for name in ("models/a", "models/deep/b")}
    store.delete("models/a")
    assert [name for name, _ in store.names()] == ["models/deep/b"]


def is_damaged(store: Store, name: str, content: bytes) -> bool:
    file_of(store, name).write_bytes(content)
    try:
        store.read(name)
    except DamagedError as error:
        return name in str(error)
    return False


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(min_value=0), flip=st.integers(1, 255), marked=st.booleans())
def test_a_changed_byte_anywhere_is_found_and_named(tmp_path: Path, position: int, flip: int, marked: bool) -> None:
    store = Store(str(tmp_path), fresh="mark 7" if marked else None)
    store.write("a/b", PAYLOAD, META)
    content = bytearray(file_of(store, "a/b").read_bytes())
    content[position % len(content)] ^= flip
    assert is_damaged(store, "a/b", bytes(content))
    # A later study without the mark reads it too.
    assert is_damaged(Store(store.root), "a/b", bytes(content))


def test_every_byte_of_the_header_counts(store: Store) -> None:
    """The JSON of the header would let some changes pass: a blank for a tab, a digit of the size."""
    store.write("a/b", PAYLOAD, META)
    whole = file_of(store, "a/b").read_bytes()
    for position in range(whole.index(b"\n") + 1):
        for other in {0x09, 0x20, whole[position] ^ 1} - {whole[position]}:
            assert is_damaged(store, "a/b", whole[:position] + bytes([other]) + whole[position + 1 :])


def test_a_truncated_or_longer_file_is_damaged(store: Store) -> None:
    store.write("a/b", PAYLOAD, META)
    whole = file_of(store, "a/b").read_bytes()
    for length in range(len(whole)):
        assert is_damaged(store, "a/b", whole[:length])
    assert is_damaged(store, "a/b", whole + b"\n")
    assert is_damaged(store, "a/b", whole + whole)


@pytest.mark.parametrize("content", [b"", b"\n", b"PK\x03\x04 foreign", b"raymia-artifact-1 []\n", b"\xff" * 2000])
def test_a_foreign_file_is_damaged(store: Store, content: bytes) -> None:
    store.write("a/b", PAYLOAD, META)
    assert is_damaged(store, "a/b", content)
    with pytest.raises(DamagedError, match="a/b"):
        store.meta("a/b")


def test_another_artifacts_payload_under_this_header_is_damaged(store: Store) -> None:
    store.write("a/b", b"payload one", META)
    store.write("a/c", b"payload two", META)
    one, two = (file_of(store, name).read_bytes().partition(b"\n") for name in ("a/b", "a/c"))
    assert is_damaged(store, "a/b", one[0] + b"\n" + two[2])


def test_meta_is_read_without_the_payload(store: Store) -> None:
    store.write("a/b", PAYLOAD, META)
    whole = file_of(store, "a/b").read_bytes()
    file_of(store, "a/b").write_bytes(whole[: whole.index(b"\n") + 1])
    assert store.meta("a/b") == META


def test_a_fresh_run_counts_only_what_it_wrote(store: Store) -> None:
    store.write("a/old", b"old", {})
    fresh = Store(store.root, fresh="run 1")
    with pytest.raises(MissingError, match="a/old is older than this fresh run"):
        fresh.read("a/old")
    fresh.write("a/new", b"new", {})
    assert fresh.read("a/new") == (b"new", {})
    with pytest.raises(MissingError):
        Store(store.root, fresh="run 2").read("a/new")
    assert store.read("a/new") == (b"new", {})
    assert store.read("a/old") == (b"old", {})


def test_an_inspection_tells_missing_from_damaged(store: Store) -> None:
    inspection = Inspection()
    store.write("a/whole", b"1", {})
    store.write("a/broken", b"1", {})
    file_of(store, "a/broken").write_bytes(b"?")
    assert [inspection.intact(store, f"a/{name}") for name in ("whole", "broken", "gone")] == [True, False, False]
    assert inspection.damaged == ["a/broken"]


def test_a_plain_file_is_the_bytes_and_nothing_else(store: Store) -> None:
    with pytest.raises(MissingError, match="no artifact a/b"):
        store.read_file("a/b")
    with pytest.raises(MissingError, match="no artifact a/b"):
        store.open_file("a/b")
    store.write_file("a/b", b"old")
    store.write_file("a/b", PAYLOAD)
    assert file_of(store, "a/b").read_bytes() == store.read_file("a/b") == PAYLOAD
    with store.open_file("a/b") as stream:
        stream.seek(6)
        assert stream.read(4) == PAYLOAD[6:10]
    assert list(store.names()) == [("a/b", len(PAYLOAD))]
    with pytest.raises(DamagedError, match="a/b"):
        store.read("a/b")


def test_an_artifact_vouches_for_files(store: Store) -> None:
    contents = {f"set/{number}": bytes([number]) * 9 for number in range(3)}
    for name, content in contents.items():
        store.write_file(name, content)
    store.write("set/all", b"", {"files": {name: file_digest(content) for name, content in contents.items()}})
    inspection = Inspection()
    assert inspection.intact(store, "set/all")
    assert inspection.damaged == []
    store.write_file("set/1", b"other")
    store.delete("set/2")
    assert not inspection.intact(store, "set/all")
    assert inspection.damaged == ["set/1", "set/2"]
    for name, content in contents.items():
        store.write_file(name, content)
    assert inspection.intact(store, "set/all")
    assert not inspection.intact(Store(store.root, fresh="run 1"), "set/all")


def test_a_long_header_is_read_whole(store: Store) -> None:
    """An artifact may vouch for thousands of files."""
    meta = {"files": {f"shards/{number:06}.parquet": "0" * 64 for number in range(20_000)}}
    store.write("a", b"payload", meta)
    assert store.meta("a") == meta
    content = file_of(store, "a").read_bytes()
    file_of(store, "a").write_bytes(content[:1_500_000])
    with pytest.raises(DamagedError, match="a is damaged"):
        store.meta("a")


@pytest.mark.parametrize("scheme", ["file", "mock"])
def test_other_filesystems_hold_artifacts_too(tmp_path: Path, scheme: str) -> None:
    """`mock` is Arrow's filesystem in memory: the way that buckets are written."""
    store = Store(f"{scheme}://{tmp_path}/artifacts")
    assert list(store.names()) == []
    with pytest.raises(MissingError, match="a/b"):
        store.read("a/b")
    store.write("a/b", PAYLOAD, META)
    store.write("a/b", b"again", META)
    store.write("c", b"", {})
    assert store.read("a/b") == (b"again", META)
    assert store.meta("a/b") == META
    assert sorted(name for name, _ in store.names()) == ["a/b", "c"]
    store.delete("a/b")
    store.delete("a/b")
    assert [name for name, _ in store.names()] == ["c"]
    store.write_file("d/e", PAYLOAD)
    assert store.read_file("d/e") == PAYLOAD
    with store.open_file("d/e") as stream:
        assert stream.read() == PAYLOAD
    assert (tmp_path / "artifacts").is_dir() == (scheme == "file")


def test_a_file_address_and_a_path_are_one_store(tmp_path: Path) -> None:
    Store(f"file://{tmp_path}").write("a/b", PAYLOAD, META)
    assert Store(str(tmp_path)).read("a/b") == (PAYLOAD, META)


def test_a_relative_store_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("here")
    store.write("a", b"1", {})
    monkeypatch.chdir("/")
    assert store.read("a") == (b"1", {})


def test_a_store_travels_to_other_processes(store: Store) -> None:
    store.write("a", b"1", {})
    copy: Store = pickle.loads(pickle.dumps(store))
    assert copy == store
    assert copy.read("a") == (b"1", {})


def test_a_write_that_fails_leaves_the_old_artifact_and_no_litter(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("a/b", b"old", {})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.write("a/b", b"new", {})
    assert store.read("a/b") == (b"old", {})
    assert [name for name, _ in store.names()] == ["a/b"]


WRITER = """
import itertools, sys
from raymia.store import Store
store = Store(sys.argv[1])
for number in itertools.count():
    store.write("a/b", number.to_bytes(4, "big") * 250_000, {"number": number})
    if number == 0:
        print("ready", flush=True)
"""


def test_a_killed_writer_leaves_a_whole_artifact(store: Store) -> None:
    seen: list[int] = []
    for delay in (0.0, 0.003, 0.007, 0.012, 0.02):
        with subprocess.Popen([sys.executable, "-c", WRITER, store.root], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(delay)
            # A reader meanwhile sees whole artifacts only.
            payload, meta = store.read("a/b")
            assert payload == meta["number"].to_bytes(4, "big") * 250_000
            writer.send_signal(signal.SIGKILL)
        payload, meta = store.read("a/b")
        assert payload == meta["number"].to_bytes(4, "big") * 250_000
        seen.append(meta["number"])
    assert max(seen) > 0
    # What a killed write left is seen, and can be freed.
    for name, _ in store.names():
        store.delete(name)
    assert list(store.names()) == []


def test_a_header_is_plain_json_for_people(store: Store) -> None:
    store.write("a/b", PAYLOAD, META)
    line = file_of(store, "a/b").read_bytes().partition(b"\n")[0]
    header: dict[str, Any] = json.loads(line.removeprefix(b"raymia-artifact-1 "))
    assert header["meta"] == META
    assert header["size"] == len(PAYLOAD)
