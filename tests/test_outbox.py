"""Delivery with a receiver that fails, hangs or refuses, and a sender that dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymia.outbox import Entry, Outbox, Spool, one_line


class Box:
    """Takes entries, unless down; refuses those marked bad."""

    def __init__(self) -> None:
        self.taken: list[Entry] = []
        self.down = False
        self.connections = 0

    def connect(self) -> "Box":
        if self.down:
            raise ConnectionError("down")
        self.connections += 1
        return self

    def send(self, entry: Entry) -> None:
        if self.down:
            raise ConnectionError("down")
        if entry.get("bad"):
            raise ValueError("refused")
        self.taken.append(entry)

    def numbers(self) -> list[int]:
        return [entry["n"] for entry in self.taken if "n" in entry]


def outbox_to(box: Box, spool: Path, topic: str = "study") -> Outbox:
    outbox = Outbox(spool, topic, box.connect, {"opening": True})
    outbox.start()
    return outbox


def test_entries_arrive_in_order_and_the_spool_is_gone(tmp_path: Path) -> None:
    box = Box()
    outbox = outbox_to(box, tmp_path / "spool")
    for number in range(20):
        outbox.put({"n": number})
    assert outbox.close(10) is None
    assert box.taken[0] == {"opening": True}
    assert box.numbers() == list(range(20))
    assert not (tmp_path / "spool").exists()


def test_after_an_outage_the_next_outbox_sends_the_rest_first(tmp_path: Path) -> None:
    box = Box()
    box.down = True
    outbox = outbox_to(box, tmp_path / "spool")
    for number in range(3):
        outbox.put({"n": number})
    assert outbox.close(10) == 3
    assert outbox.trouble == "down"

    box.down = False
    again = outbox_to(box, tmp_path / "spool")
    again.put({"n": 3})
    assert again.close(10) is None
    assert box.numbers() == [0, 1, 2, 3]
    assert box.taken[3] == {"opening": True}
    assert not (tmp_path / "spool").exists()


def test_a_receiver_that_comes_back_gets_everything_in_the_same_session(tmp_path: Path) -> None:
    box = Box()
    outbox = outbox_to(box, tmp_path / "spool")
    box.down = True
    outbox.put({"n": 0})
    outbox.put({"n": 1})
    box.down = False
    outbox.put({"n": 2})
    assert outbox.close(10) is None
    assert sorted(box.numbers()) == [0, 1, 2]


def test_a_refused_entry_stops_no_other_and_stays(tmp_path: Path) -> None:
    box = Box()
    outbox = outbox_to(box, tmp_path / "spool")
    for entry in ({"n": 0}, {"n": 1, "bad": True}, {"n": 2}):
        outbox.put(entry)
    assert outbox.close(10) == 1
    assert sorted(box.numbers()) == [0, 2]
    assert [line["entry"]["n"] for line in Spool(tmp_path / "spool").read()] == [1]


def test_entries_of_another_topic_stay_untouched(tmp_path: Path) -> None:
    box, other = Box(), Box()
    other.down = True
    elsewhere = outbox_to(other, tmp_path / "spool", topic="other study")
    elsewhere.put({"n": 7})
    elsewhere.close(10)
    outbox = outbox_to(box, tmp_path / "spool")
    outbox.put({"n": 0})
    assert outbox.close(10) is None
    assert box.numbers() == [0]
    assert [line["entry"] for line in Spool(tmp_path / "spool").read()] == [{"n": 7}]


def test_closing_does_not_wait_for_a_receiver_that_hangs(tmp_path: Path) -> None:
    release = threading.Event()

    class Hanging(Box):
        def send(self, entry: Entry) -> None:
            release.wait(60)
            super().send(entry)

    box = Hanging()
    outbox = outbox_to(box, tmp_path / "spool")
    outbox.put({"n": 0})
    began = time.monotonic()
    assert outbox.close(0.3) == 1
    assert time.monotonic() - began < 30
    release.set()
    outbox._thread.join(30)
    # The thread came back after the outbox had been given up: what it sent stays in the spool all the same.
    assert len(Spool(tmp_path / "spool").read()) == 1


def test_nothing_is_put_after_closing(tmp_path: Path) -> None:
    outbox = outbox_to(Box(), tmp_path / "spool")
    outbox.close(10)
    with pytest.raises(RuntimeError, match="closed"):
        outbox.put({"n": 0})


def test_a_disk_that_refuses_the_spool_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    box = Box()
    outbox = outbox_to(box, tmp_path / "file" / "spool")
    outbox.put({"n": 0})
    assert outbox.close(10) is None
    assert box.numbers() == [0]


def test_what_was_put_before_a_kill_is_in_the_spool(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from raymia.outbox import Outbox
def connect():
    time.sleep(600)
outbox = Outbox(Path(sys.argv[1]), "study", connect, {})
outbox.start()
for number in range(5):
    outbox.put({"n": number})
print("put", flush=True)
time.sleep(600)
"""
    spool = tmp_path / "spool"
    with subprocess.Popen([sys.executable, "-c", program, str(spool)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"put\n"
        os.kill(process.pid, signal.SIGKILL)
    box = Box()
    assert outbox_to(box, spool).close(10) is None
    assert box.numbers() == [0, 1, 2, 3, 4]


JSON = st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False) | st.text(max_size=20), max_size=3)


@settings(max_examples=40, deadline=None)
@given(entries=st.lists(JSON, min_size=1, max_size=4), cut=st.integers(1, 10_000))
def test_a_half_written_line_loses_that_entry_only(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], cut: int
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool") / "spool")
    for entry in entries:
        spool.append(entry)
    whole = spool.path.read_bytes()
    last = len(whole.rstrip(b"\n").rpartition(b"\n")[2]) + 1
    spool.path.write_bytes(whole[: -min(max(cut % last, 2), last)])
    assert spool.read() == entries[:-1]
    spool.append({"after": 1})
    assert spool.read() == [*entries[:-1], {"after": 1}]
    spool.keep(entries)
    assert spool.read() == entries


@pytest.mark.parametrize(
    ("error", "line"), [(ValueError("a\nb"), "a"), (ValueError(), "ValueError"), (ValueError("x" * 500), "x" * 200)]
)
def test_an_error_is_told_in_one_line(error: Exception, line: str) -> None:
    assert one_line(error) == line
