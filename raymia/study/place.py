"""Where a command's results go: a folder on this machine for people, a store of artifacts that every node reaches."""

import uuid
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from raymia.errors import InputError
from raymia.store import Store


def place_of(results: str, fresh: bool) -> tuple[Path, Store]:
    """results: a folder, or the URI of one. fresh: count nothing that is there as present.

    With results in a bucket, what people read is written to `results` here. Raises InputError for a URI that is none.
    """
    shared = "://" in results
    local = Path("results" if shared else results)
    root = results.rstrip("/") if shared else str(local.absolute())
    if shared:
        _check(results, root)
    return local, Store(f"{root}/artifacts", uuid.uuid4().hex if fresh else None)


def _check(results: str, root: str) -> None:
    try:
        fs.FileSystem.from_uri(root)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--results {results}: {reason}; give a folder, or a URI such as s3://bucket/folder") from None
