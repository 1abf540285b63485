"""One process at a time works on a study: a lock in its folder, which the system frees when its holder dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raymia.errors import InputError

_LOCK = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder, made where it is missing. Raises InputError when another process has it or it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); give another folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise in_use(folder) from None
        yield


def is_held(folder: Path) -> bool:
    """Whether some process holds the folder; nothing is written."""
    try:
        lock = (folder / _LOCK).open("r")
    except OSError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def in_use(folder: Path) -> InputError:
    """The refusal of a folder that another process holds."""
    return InputError(f"{folder}: another raymia is working on this study; wait for it to end, or stop it")
