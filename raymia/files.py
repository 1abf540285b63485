"""Files that appear whole or not at all."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Write all of the files beside their places, then put each into its place."""
    partial = {path: path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial") for path in contents}
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial[path].open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, made in partial.items():
            made.replace(path)
    finally:
        for made in partial.values():
            made.unlink(missing_ok=True)
