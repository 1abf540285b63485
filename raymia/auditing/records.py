"""The records of an audit that asks the model itself: members, non-members, perhaps a population, from their files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from raymia.errors import InputError
from raymia.records import Records, load_records
from raymia.records.copies import first_of_copies
from raymia.records.location import list_folder, open_location


@dataclass(frozen=True)
class AuditRecords:
    """inputs: uint8[n, H, W, channels] or float32[n, F] of all files, one after another. labels: int64[n], as the
    model counts its classes. ids: int64[n], the files' own. part_of: int64[n], the file of each. classes: K.
    class_names: K names. left_out: of each file, records that stand in an earlier one or twice.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    part_of: NDArray[np.int64]
    classes: int
    left_out: tuple[int, ...]

    def part(self, number: int) -> NDArray[np.int64]:
        """int64: the rows of a file."""
        return np.flatnonzero(self.part_of == number)


def read_audit_records(options: Sequence[str], files: Sequence[str], classes: int | None) -> AuditRecords:
    """The files' records as one set, exact copies left out but for the first: a non-member that equals a member is one.

    options: what each file was given as, for messages. classes: K; by default the class names in the files' metadata,
    else the largest label + 1, or for labels that are text the number of different ones.
    Raises InputError for files that cannot be read, or do not fit together.
    """
    parts = [_loaded(option, file) for option, file in zip(options, files, strict=True)]
    for option, part in zip(options, parts, strict=True):
        if part.inputs.shape[1:] != parts[0].inputs.shape[1:] or part.inputs.dtype != parts[0].inputs.dtype:
            raise InputError(
                f"{option}: its records are {part.inputs.dtype}{list(part.inputs.shape[1:])}, those of {options[0]} "
                f"{parts[0].inputs.dtype}{list(parts[0].inputs.shape[1:])}: bring all to one form"
            )
    labels, known = _common_labels(options, files, parts)
    largest = int(max(one.max() for one in labels)) + 1
    if classes is not None and classes < largest:
        raise InputError(f"--classes {classes}: the labels go up to {largest - 1}; give {largest} or more")
    inputs = np.concatenate([part.inputs for part in parts])
    part_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    kept = first_of_copies(inputs)
    twice = len(part_of) - len(kept)
    left_out = np.bincount(np.delete(part_of, kept), minlength=len(parts)) if twice else np.zeros(len(parts), int)
    return AuditRecords(
        inputs[kept] if twice else inputs,
        np.concatenate(labels)[kept],
        np.concatenate([part.ids for part in parts])[kept],
        part_of[kept],
        classes or max(known, largest),
        tuple(int(more) + part.duplicates_dropped for more, part in zip(left_out, parts, strict=True)),
    )


def _loaded(option: str, file: str) -> Records:
    try:
        return load_records(file)
    except InputError as error:
        raise InputError(f"{option}: {error}") from error


def _common_labels(
    options: Sequence[str], files: Sequence[str], parts: Sequence[Records]
) -> tuple[list[NDArray[np.int64]], int]:
    """Each file's labels as the model counts classes, and how many classes are known of.

    The place in the metadata `class_names`; without these integers as they are, and text by its place among all
    different ones, sorted.
    """
    named = [_has_class_names(file) for file in files]
    names = [part.class_names for part in parts]
    if any(named):
        for option, one, has_names in zip(options, names, named, strict=True):
            if one != names[0] or has_names != named[0]:
                raise InputError(f"{option}: other class_names than {options[0]}; write the same into every file")
        return [part.labels for part in parts], len(names[0])
    text = sorted({name for one in names for name in one})
    if all(name.removeprefix("-").isdecimal() for name in text):
        if any(int(name) < 0 for name in text):
            raise InputError(f"{options[0]}: labels below 0; give the place of the class in the model's answers")
        return [np.array([int(name) for name in part.class_names])[part.labels] for part in parts], 0
    place = {name: number for number, name in enumerate(text)}
    return [np.array([place[name] for name in part.class_names])[part.labels] for part in parts], len(text)


def _has_class_names(file: str) -> bool:
    """Whether the metadata of its Parquet files names the classes."""
    filesystem, info = open_location(file)
    paths = [info.path]
    if info.type == fs.FileType.Directory:
        paths = [entry.path for entry in list_folder(file, filesystem, info.path) if entry.extension == "parquet"]
    if not paths:
        return False
    return b"class_names" in (pq.read_schema(paths[0], filesystem=filesystem).metadata or {})
