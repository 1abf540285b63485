"""Where a data set's files are: a local path, or the address of any file system that Arrow knows."""

import posixpath
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from raymia.errors import InputError


def open_location(dataset: str) -> tuple[fs.FileSystem, fs.FileInfo]:
    """The file system of a path or an address (`s3://bucket/folder`), and what stands there.

    Raises InputError where nothing does, or it cannot be looked at.
    """
    try:
        if "://" in dataset:
            filesystem, path = fs.FileSystem.from_uri(dataset)
        else:
            filesystem, path = fs.LocalFileSystem(), str(Path(dataset).expanduser().absolute())
        info = filesystem.get_file_info(path)
    except (OSError, RuntimeError, pa.ArrowInvalid) as error:
        raise InputError(f"dataset {dataset}: cannot be looked up ({' '.join(str(error).split())})") from error
    if info.type == fs.FileType.NotFound:
        raise InputError(f"dataset {dataset}: there is no such file or folder; correct the path")
    return filesystem, info


def list_folder(dataset: str, filesystem: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    """A folder's entries by name, hidden ones left out. Raises InputError where it cannot be listed."""
    try:
        entries = filesystem.get_file_info(fs.FileSelector(folder))
    except OSError as error:
        raise InputError(f"dataset {dataset}: {posixpath.basename(folder)} cannot be listed ({error})") from error
    return sorted((entry for entry in entries if entry.base_name[0] not in "._"), key=lambda entry: entry.base_name)
