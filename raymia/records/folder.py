"""Records of an image folder: one folder a class, named after it, with its images in it."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs

from raymia.errors import InputError
from raymia.records.decode import decode_images
from raymia.records.encoded import EncodedRecords
from raymia.records.labels import require_two_classes
from raymia.records.location import list_folder

EXTENSIONS = frozenset({"bmp", "gif", "jpeg", "jpg", "pgm", "png", "ppm", "tif", "tiff", "webp"})
CHUNK_FILES = 256


def folder_records(dataset: str, filesystem: fs.FileSystem, folder: str, limit: int | None) -> EncodedRecords:
    """The images of a class-per-folder tree: sorted classes, in each its sorted files; ids count in this order.

    A limit takes the classes' images by turns, since the first ones in order would be of one class. Hidden files and
    files that are no images by their name are passed over. Raises InputError for a folder of another form.
    """
    classes = [entry for entry in list_folder(dataset, filesystem, folder) if entry.type == fs.FileType.Directory]
    if not classes:
        raise InputError(
            f"dataset {dataset}: it holds neither Parquet files nor one folder a class: give one that does"
        )
    files_of = [_images(dataset, filesystem, entry) for entry in classes]
    paths = [path for files in files_of for path in files]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(files) for files in files_of])
    ids = _by_turns(labels, limit or len(labels))
    class_names = tuple(entry.base_name for entry in classes)
    require_two_classes(dataset, labels[ids], class_names)
    chosen = [paths[position] for position in ids]
    return EncodedRecords(
        dataset,
        labels[ids],
        ids,
        class_names,
        source=f"image folder {folder.rstrip('/').rpartition('/')[2]}",
        chunks=tuple(tuple(chosen[start : start + CHUNK_FILES]) for start in range(0, len(chosen), CHUNK_FILES)),
        decode=partial(decode_files, filesystem=filesystem),
    )


def decode_files(paths: Sequence[str], *, filesystem: fs.FileSystem) -> Iterator[pa.Table]:
    """The images of some files as one table of `decode.DECODED`."""
    yield decode_images(partial(_read, filesystem, path) for path in paths)


def _read(filesystem: fs.FileSystem, path: str) -> bytes:
    with filesystem.open_input_stream(path) as stream:
        content: bytes = stream.read()
    return content


def _images(dataset: str, filesystem: fs.FileSystem, entry: fs.FileInfo) -> list[str]:
    files = [
        file.path
        for file in list_folder(dataset, filesystem, entry.path)
        if file.type == fs.FileType.File and file.extension.lower() in EXTENSIONS
    ]
    if not files:
        raise InputError(
            f"dataset {dataset}: folder {entry.base_name!r} holds no images itself: give the folder whose subfolders "
            "are the classes, and remove empty ones"
        )
    return files


def _by_turns(labels: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Positions, ascending, of the first `limit` records when the classes (sorted labels) give one by turns."""
    starts = np.searchsorted(labels, labels)
    turn = np.arange(len(labels)) - starts
    return np.sort(np.lexsort((labels, turn))[:limit]).astype(np.int64)
