"""Artifacts on disk or in a bucket: one file each, named by content, written whole or not at all, checked when read."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from raymia.errors import RaymiaError

_MAGIC = b"raymia-artifact-1 "
_HEADER_BYTES = 1 << 20


class MissingError(RaymiaError):
    """No artifact of that name."""


class DamagedError(RaymiaError):
    """The artifact is there, but its bytes are not the ones written."""


@dataclass(frozen=True)
class Store:
    """A folder of artifacts: a local path, or any URI that pyarrow's filesystems read (s3://, gs://, hdfs:// …).

    A file is a header line (JSON: checksum, size, meta) and the payload. An artifact written in a run marked
    `fresh` carries the run's mark, and only those count as present to it: so a fresh run redoes everything once.

    Beside them lie plain files, in formats that other tools read. They carry no checksum of ours: an artifact vouches
    for them, whose meta holds `files`, a mapping from name to `file_digest`.
    """

    root: str
    fresh: str | None = None

    @cached_property
    def _located(self) -> tuple[fs.FileSystem, str]:
        if "://" in self.root:
            filesystem, path = fs.FileSystem.from_uri(self.root)
            return filesystem, path
        return fs.LocalFileSystem(), str(Path(self.root).absolute())

    def _path(self, name: str) -> str:
        return str(PurePosixPath(self._located[1]) / name)

    def write(self, name: str, payload: bytes, meta: dict[str, Any]) -> None:
        """Write an artifact, replacing one of the same name. A reader sees the old one or the new one, never a part."""
        digest = _digest(payload, meta, self.fresh)
        header = {"sha256": digest, "size": len(payload), "meta": meta, "fresh": self.fresh}
        self.write_file(name, _MAGIC + json.dumps(header).encode() + b"\n" + payload)

    def write_file(self, name: str, content: bytes) -> None:
        """Write a plain file, replacing one of the same name. A reader sees the old or the new one, never a part."""
        filesystem, path = self._located[0], self._path(name)
        folder = str(PurePosixPath(path).parent)
        filesystem.create_dir(folder, recursive=True)
        if isinstance(filesystem, fs.LocalFileSystem):
            _write_local(Path(path), content)
            return
        # An object store shows a new object only when its upload is complete.
        with filesystem.open_output_stream(path) as stream:
            stream.write(content)

    def read(self, name: str) -> tuple[bytes, dict[str, Any]]:
        """The payload and meta. Raises MissingError or DamagedError, which name the artifact."""
        content = self.read_file(name)
        line, newline, payload = content.partition(b"\n")
        header = _header(line)
        if not newline or header is None or not _whole(header, payload):
            raise DamagedError(f"artifact {name} is damaged")
        if self.fresh is not None and header["fresh"] != self.fresh:
            raise MissingError(f"artifact {name} is older than this fresh run")
        return payload, header["meta"]

    def read_part(self, name: str, start: int, size: int) -> bytes:
        """`size` bytes of a file from `start`, unchecked. Raises MissingError, or DamagedError where it ends before."""
        with self.open_file(name) as stream:
            stream.seek(start)
            part: bytes = stream.read(size)
        if len(part) < size:
            raise DamagedError(f"artifact {name} is damaged")
        return part

    def read_file(self, name: str) -> bytes:
        """The bytes of a plain file, whatever they are. Raises MissingError."""
        try:
            with self._located[0].open_input_stream(self._path(name)) as stream:
                content: bytes = stream.read()
        except FileNotFoundError:
            raise MissingError(f"no artifact {name}") from None
        return content

    def open_file(self, name: str) -> pa.NativeFile:
        """A file for reading parts of it; the caller closes it. Raises MissingError."""
        try:
            return self._located[0].open_input_file(self._path(name))
        except FileNotFoundError:
            raise MissingError(f"no artifact {name}") from None

    def meta(self, name: str) -> dict[str, Any]:
        """The meta alone, without reading the payload or checking it. Raises MissingError or DamagedError."""
        return self.look(name)[0]

    def look(self, name: str) -> tuple[dict[str, Any], int]:
        """The meta, unchecked, and where in the file the payload begins. Raises MissingError or DamagedError."""
        with self.open_file(name) as stream:
            line = _first_line(stream)
        header = _header(line)
        if header is None:
            raise DamagedError(f"artifact {name} is damaged")
        meta: dict[str, Any] = header["meta"]
        return meta, len(line) + 1

    def delete(self, name: str) -> None:
        """Remove an artifact; one that is not there is fine."""
        try:
            self._located[0].delete_file(self._path(name))
        except FileNotFoundError:
            return

    def names(self) -> Iterator[tuple[str, int]]:
        """Every file's name and size in bytes: the artifacts, and what writes that were killed left behind."""
        selector = fs.FileSelector(self._located[1], recursive=True, allow_not_found=True)
        base = PurePosixPath(self._located[1])
        for info in self._located[0].get_file_info(selector):
            if info.type == fs.FileType.File:
                yield str(PurePosixPath(info.path).relative_to(base)), info.size


@dataclass
class Inspection:
    """What was found on looking through the store for artifacts that a study needs."""

    damaged: list[str] = field(default_factory=list)

    def intact(self, store: Store, name: str) -> bool:
        """Whether the artifact and the files it vouches for are there and undamaged.

        A damaged one is noted by name and counts as absent. A file that is gone, or is not the one vouched for, is
        noted by its own name.
        """
        try:
            _, meta = store.read(name)
        except MissingError:
            return False
        except DamagedError:
            self.damaged.append(name)
            return False
        spoiled = [file for file, digest in meta.get("files", {}).items() if not _is_vouched_for(store, file, digest)]
        self.damaged += spoiled
        return not spoiled


def file_digest(content: bytes) -> str:
    """What vouches for a plain file with this content: SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def _is_vouched_for(store: Store, name: str, digest: str) -> bool:
    try:
        return file_digest(store.read_file(name)) == digest
    except MissingError:
        return False


def _first_line(stream: pa.NativeFile) -> bytes:
    """Without its newline; of a file that is no artifact only the start, however long it is."""
    content: bytes = stream.read(_HEADER_BYTES)
    while b"\n" not in content and content.startswith(_MAGIC) and (more := stream.read(_HEADER_BYTES)):
        content += more
    return content.partition(b"\n")[0]


def _digest(payload: bytes, meta: dict[str, Any], fresh: str | None) -> str:
    digest = hashlib.sha256(json.dumps(meta).encode())
    digest.update((fresh or "").encode())
    digest.update(payload)
    return digest.hexdigest()


def _whole(header: dict[str, Any], payload: bytes) -> bool:
    digest = _digest(payload, header["meta"], header["fresh"])
    return header["size"] == len(payload) and header["sha256"] == digest


def _header(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(_MAGIC):
        return None
    try:
        header = json.loads(line[len(_MAGIC) :])
    except ValueError:
        return None
    if not isinstance(header, dict) or header.keys() != {"sha256", "size", "meta", "fresh"}:
        return None
    # Only the very bytes that were written: JSON itself would let a changed space or escape pass.
    return header if json.dumps(header).encode() == line[len(_MAGIC) :] else None


def _write_local(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
