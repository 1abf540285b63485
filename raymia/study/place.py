"""Where a command's results go: a folder on this machine for people, a store of artifacts that every node reaches."""

import uuid
from pathlib import Path

from raymia.store import Store


def place_of(results: str, fresh: bool) -> tuple[Path, Store]:
    """results: a folder, or the URI of one. fresh: count nothing that is there as present.

    With results in a bucket, what people read is written to `results` here.
    """
    shared = "://" in results
    local = Path("results" if shared else results)
    root = results.rstrip("/") if shared else str(local.absolute())
    return local, Store(f"{root}/artifacts", uuid.uuid4().hex if fresh else None)
