"""Delivery in the background that survives an outage of the receiver and the death of the sender.

An entry is written to a spool on the disk, then sent by one thread, then removed from the spool. A receiver that is
sent the same entry twice must take it once: after a crash the entries whose fate is unknown are sent again.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

Entry = dict[str, Any]

RETRY_SECONDS = 15.0
"""Time between two attempts while nothing new is put."""


class Receiver(Protocol):
    """Where entries go."""

    def send(self, entry: Entry) -> None:
        """Takes an entry, once however often it is sent; raises when it could not."""


class Spool:
    """A durable list of entries, one JSON object a line.

    A process killed while it appends leaves at most one half line, which `read` passes over. Numbers that are not
    finite are written as Python's `json` does (`NaN`, `Infinity`).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Entry]:
        """The entries in the order they were appended; damaged lines are passed over."""
        try:
            lines = self.path.read_bytes().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [entry for entry in map(_decoded, lines) if entry is not None]

    def append(self, entry: Entry) -> None:
        """Adds an entry, which is on the disk when this returns. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            if _ends_in_half_line(file):
                file.write(b"\n")
            file.write(_encoded(entry))
            file.flush()
            os.fsync(file.fileno())

    def keep(self, entries: Sequence[Entry]) -> None:
        """Replaces the file by these entries in one step; removes it when there are none. Raises OSError."""
        if not entries:
            self.path.unlink(missing_ok=True)
            return
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("wb") as file:
            file.writelines(map(_encoded, entries))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self.path)


@dataclass(frozen=True, eq=False)
class _Queued:
    entry: Entry
    durable: bool


class Outbox:
    """Sends entries in order from one thread, which also connects to the receiver, again after every failure.

    No failure reaches the caller; the last one's text is in `trouble`.

    topic: entries of other topics in the same spool stay there untouched. What an earlier outbox of this topic left in
    the spool is sent first, then `opening` (not spooled: every outbox has its own), then what is put.
    """

    def __init__(self, spool: Path, topic: str, connect: Callable[[], Receiver], opening: Entry) -> None:
        self.trouble = ""
        self._spool, self._topic, self._connect = Spool(spool), topic, connect
        found = self._spool.read()
        self._foreign = [line for line in found if line.get("topic") != topic]
        earlier = [line["entry"] for line in found if line.get("topic") == topic]
        self._unsent = [*(_Queued(entry, True) for entry in earlier), _Queued(opening, False)]
        self._receiver: Receiver | None = None
        self._progress = time.monotonic()
        self._abandoned = False
        self._lock = threading.Lock()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"outbox-{topic}", daemon=True)

    def start(self) -> None:
        """Starts the thread; a daemon, so a receiver that hangs never keeps the process alive."""
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Queues an entry; it is in the spool when this returns (in memory alone when the disk refuses it)."""
        if self._closing.is_set():
            raise RuntimeError("the outbox is closed")
        with self._lock:
            try:
                self._spool.append({"topic": self._topic, "entry": entry})
            except OSError as error:
                self.trouble = f"{self._spool.path} cannot be written: {error}"
            self._unsent.append(_Queued(entry, True))
        self._wake.set()

    def close(self, patience: float) -> int | None:
        """Waits for the rest to be sent, `patience` seconds beyond the last progress; the number of entries left.

        None when all was sent; 0 when only the opening was not.
        """
        closed_at = time.monotonic()
        self._closing.set()
        self._wake.set()
        while self._thread.is_alive():
            left = patience - (time.monotonic() - max(self._progress, closed_at))
            if left <= 0:
                break
            self._thread.join(left)
        with self._lock:
            self._abandoned = True
            return sum(queued.durable for queued in self._unsent) if self._unsent else None

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()
            self._send_all()
            if closing or self._abandoned:
                return
            self._wake.wait(RETRY_SECONDS if self._unsent else None)
            self._wake.clear()

    def _send_all(self) -> None:
        """One attempt at every entry: one that is refused stays, a receiver that cannot be reached ends the attempt."""
        sent: list[_Queued] = []
        for queued in list(self._unsent):
            try:
                receiver = self._connected()
            except Exception as error:
                self.trouble = one_line(error)
                break
            try:
                receiver.send(queued.entry)
            except Exception as error:
                self.trouble = one_line(error)
                self._receiver = None
            else:
                sent.append(queued)
                self._progress = time.monotonic()
        if sent:
            self._settle(sent)

    def _connected(self) -> Receiver:
        if self._receiver is None:
            self._receiver = self._connect()
            self._progress = time.monotonic()
        return self._receiver

    def _settle(self, sent: list[_Queued]) -> None:
        with self._lock:
            if self._abandoned:
                return
            self._unsent = [queued for queued in self._unsent if queued not in sent]
            lines = [{"topic": self._topic, "entry": queued.entry} for queued in self._unsent if queued.durable]
            # What stays in the spool although it was sent is sent again, and taken once.
            with contextlib.suppress(OSError):
                self._spool.keep([*self._foreign, *lines])


def one_line(error: BaseException, length: int = 200) -> str:
    """The first line of an error's text, shortened; its type's name when it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0][:length] if lines else type(error).__name__


def _encoded(entry: Entry) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _decoded(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _ends_in_half_line(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
