"""The arrays of an npz file: never unpickled, and large ones not loaded where they need not be."""

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np

from raymia.auditing.stored_array import Array, StoredArray
from raymia.errors import InputError

_LOCAL_HEADER = 30  # bytes before the name in a member's header
_BROKEN = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError)


def read_npz(path: Path, stored: Collection[str]) -> dict[str, Array]:
    """The arrays by name. Those named in `stored` are left in the file, where it is written uncompressed
    (`numpy.savez`, not `savez_compressed`) and in C order; else they are loaded.

    Raises InputError for a file that is damaged (checksums are looked at), and for arrays of Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise InputError(f"{path}: {damaged} is damaged; write the file anew")
            return {
                info.filename.removesuffix(".npy"): _array(path, archive, info, stored) for info in archive.infolist()
            }
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: is no readable npz file ({reason}); write it with numpy.savez") from error


def _array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, stored: Collection[str]) -> Array:
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as member:
        shape, fortran, dtype = _header(member)
        if dtype.hasobject:
            raise InputError(
                f"{path}: {name} holds Python objects, which could run code when they are read; give a plain array"
            )
        apart = name in stored and info.compress_type == zipfile.ZIP_STORED and not fortran
        at = member.tell()
    if apart:
        return StoredArray(path, dtype, shape, _data_start(path, info) + at)
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)


def _data_start(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the member's bytes begin: its local header has a name and extra fields of its own."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER)
    return (
        info.header_offset
        + _LOCAL_HEADER
        + int.from_bytes(header[26:28], "little")
        + int.from_bytes(header[28:30], "little")
    )
