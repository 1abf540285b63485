"""Where an audit may write."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from raymia.errors import InputError


def check_outputs(outputs: Mapping[str, Path], inputs: Iterable[Path]) -> None:
    """Raise InputError where a file could not be written, or would replace an input or another one. By option."""
    taken = {path.resolve() for path in inputs}
    for option, path in outputs.items():
        folder = next((one for one in path.absolute().parents if one.exists()), Path("/"))
        if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise InputError(f"{option} {path}: cannot be written; give a file in a folder that can")
        if path.resolve() in taken:
            raise InputError(f"{option} {path}: is another file of this audit; give another name")
        taken.add(path.resolve())
