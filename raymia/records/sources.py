"""Data sets by name or by path."""

from pathlib import Path

from pyarrow import fs

from raymia.errors import InputError
from raymia.records.cifar import CIFAR_RECORDS, cifar_records
from raymia.records.copies import distinct_records
from raymia.records.dataset import Records
from raymia.records.digits import DIGITS, digits_records
from raymia.records.encoded import EncodedRecords, MapChunks, decode_inputs, in_this_process
from raymia.records.folder import folder_records
from raymia.records.location import list_folder, open_location
from raymia.records.parquet import parquet_records
from raymia.records.resize import resized
from raymia.yaml_files import suggestion

# Records in each built-in data set, copies included.
BUILT_IN = {"digits": DIGITS, "cifar10": CIFAR_RECORDS, "cifar100": CIFAR_RECORDS}


def load_records(
    dataset: str,
    *,
    limit: int | None = None,
    image_size: int | None = None,
    root: Path | None = None,
    map_chunks: MapChunks = in_this_process,
) -> Records:
    """A data set's records in memory, without exact copies.

    dataset: `digits`, `cifar10`, `cifar100`, or the path of a Parquet file, of a folder of Parquet files, or of a
    folder with one folder of images a class. limit: read the first records only, counted before copies are dropped.
    image_size: make images so many pixels high and wide. root: where CIFAR is kept. map_chunks: who decodes files;
    whoever it is, the records are the same.

    Raises InputError, in one line, for whatever is wrong with the data set.
    """
    _check_limit(limit)
    records = _at_full_size(dataset, limit, root, map_chunks)
    return records if image_size is None else resized(records, image_size)


def _at_full_size(dataset: str, limit: int | None, root: Path | None, map_chunks: MapChunks) -> Records:
    if dataset == "digits":
        return digits_records(limit)
    if dataset in BUILT_IN:
        return cifar_records(dataset, limit, root)
    encoded = _encoded(dataset, limit)
    inputs = decode_inputs(encoded, map_chunks)
    return distinct_records(dataset, inputs, encoded.labels, encoded.ids, encoded.class_names, encoded.source)


def check_source(dataset: str, limit: int | None = None) -> int:
    """How many records `load_records` would read, copies included, found without decoding an input.

    Raises the InputErrors of `load_records` that need no decoding: paths, columns, types, labels, ids, classes.
    """
    _check_limit(limit)
    if dataset in BUILT_IN:
        return min(BUILT_IN[dataset], limit or BUILT_IN[dataset])
    return len(_encoded(dataset, limit).labels)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 2:
        raise InputError(f"data.limit must be 2 or more, got {limit}")


def _encoded(dataset: str, limit: int | None) -> EncodedRecords:
    """The checked but undecoded records of a path."""
    looks_like_a_path = any(mark in dataset for mark in "/\\.~")
    if not looks_like_a_path and not Path(dataset).exists():
        raise InputError(
            f"unknown dataset {dataset!r}: {suggestion(dataset, sorted(BUILT_IN))}, or the path of a Parquet file, of "
            "a folder of them, or of a folder with one folder of images a class"
        )
    filesystem, info = open_location(dataset)
    if info.type != fs.FileType.Directory:
        return parquet_records(dataset, filesystem, [info.path], limit)
    parts = [entry.path for entry in list_folder(dataset, filesystem, info.path) if entry.extension == "parquet"]
    if parts:
        return parquet_records(dataset, filesystem, parts, limit)
    return folder_records(dataset, filesystem, info.path, limit)
