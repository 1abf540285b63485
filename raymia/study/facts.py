"""What a study must know of its data, kept by the content of the files: a repeated study need not decode them."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from pyarrow import fs

from raymia.config import DataConfig
from raymia.keys import content_key
from raymia.records import Records
from raymia.records.location import open_location
from raymia.store import DamagedError, MissingError, Store
from raymia.versions import VERSIONS

_CHUNK = 1 << 24


@dataclass(frozen=True)
class DataFacts:
    """fingerprint: of the records. input_shape: (channels, H, W) or (F,). counts: records of each class."""

    fingerprint: str
    records: int
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    duplicates_dropped: int
    source: str

    @property
    def classes(self) -> int:
        """Number of classes K."""
        return len(self.class_names)


def facts_of(records: Records) -> DataFacts:
    """The facts of records in memory."""
    shape = records.inputs.shape
    return DataFacts(
        fingerprint=records.fingerprint,
        records=len(records),
        input_shape=(shape[3], shape[1], shape[2]) if records.is_image else (shape[1],),
        class_names=records.class_names,
        counts=tuple(int((records.labels == label).sum()) for label in range(records.classes)),
        duplicates_dropped=records.duplicates_dropped,
        source=records.source,
    )


def recall_facts(data: DataConfig, store: Store) -> DataFacts | None:
    """The facts found when the same files were read before, or None."""
    name = _facts_name(data)
    if name is None:
        return None
    try:
        content = json.loads(store.read(name)[0])
    except (MissingError, DamagedError):
        return None
    facts: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    return DataFacts(**facts)


def remember_facts(data: DataConfig, facts: DataFacts, store: Store) -> None:
    """Keep the facts for the next time these files are asked for."""
    name = _facts_name(data)
    if name is not None:
        store.write(name, json.dumps(asdict(facts)).encode(), {"dataset": data.dataset})


def _facts_name(data: DataConfig) -> str | None:
    """Where the facts of this source are kept; None for a source without files to tell it by (digits, CIFAR)."""
    files = _file_digests(data.dataset) if any(mark in data.dataset for mark in "/\\.~") else None
    if files is None:
        return None
    content = {"files": files, "named": data.dataset, "limit": data.limit, "version": VERSIONS["records"]}
    if data.image_size is not None:
        content["image_size"] = data.image_size
    return "facts/" + content_key("facts", content)


def _file_digests(dataset: str) -> list[list[Any]]:
    filesystem, info = open_location(dataset)
    if info.type == fs.FileType.File:
        files = [info]
    else:
        selector = fs.FileSelector(info.path, recursive=True)
        files = sorted(
            (f for f in filesystem.get_file_info(selector) if f.type == fs.FileType.File), key=lambda f: f.path
        )
    return [[file.path.removeprefix(info.path), _file_digest(filesystem, file.path)] for file in files]


def _file_digest(filesystem: fs.FileSystem, path: str) -> str:
    digest = hashlib.sha256()
    with filesystem.open_input_stream(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
