"""Where MLflow keeps the runs: which addresses raymia takes, judged without MLflow."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from raymia.errors import InputError

_DATABASE = "sqlite:///"
_SERVERS = ("http://", "https://")


def default_tracking_uri(results: Path) -> str:
    """The database under the results folder."""
    return f"{_DATABASE}{results.absolute() / 'mlflow.db'}"


def check_address(uri: str, nodes: int) -> None:
    """Raises InputError when `uri` cannot be used from a cluster of `nodes`; asks no server."""
    if uri.startswith(_SERVERS):
        if not urlsplit(uri).hostname:
            raise InputError(f"--tracking-uri: '{redacted(uri)}' names no host: use http://HOST:PORT")
        return
    if not is_local(uri):
        raise InputError(
            f"--tracking-uri: '{redacted(uri)}' is not supported: use sqlite:///PATH.db on one machine "
            "or the http:// address of an MLflow server"
        )
    if nodes > 1:
        raise InputError(
            f"--tracking-uri: '{uri}' is a local database but the cluster has {nodes} nodes: start an MLflow server "
            "(deploy/mlflow-server.sh) and pass --tracking-uri http://HOST:5000"
        )
    _check_database(database_path(uri))


def is_local(uri: str) -> bool:
    """Whether the runs go to a database of this machine, named by its path."""
    return uri.startswith(_DATABASE) and len(uri) > len(_DATABASE)


def database_path(uri: str) -> Path:
    """The file of a `sqlite:///` address; a relative one counts from the working directory, as in SQLAlchemy."""
    return Path(uri.removeprefix(_DATABASE)).absolute()


def absolute(uri: str) -> str:
    """The same address, whatever the working directory becomes."""
    return f"{_DATABASE}{database_path(uri)}" if is_local(uri) else uri


def redacted(text: str) -> str:
    """Without the user and password that an address may carry."""
    return re.sub(r"://[^/@\s]+@", "://", text)


def _check_database(path: Path) -> None:
    # SQLAlchemy reads these as escapes and options, from 2.1 differently than before.
    if any(sign in str(path) for sign in "%?#"):
        raise InputError(f"--tracking-uri: '{path}' holds one of % ? #, which a database address cannot: rename it")
    if path.is_dir():
        raise InputError(f"--tracking-uri: '{path}' is a folder: name a file in it, such as mlflow.db")
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    if not os.access(place, os.W_OK) or (place != path and not place.is_dir()):
        raise InputError(f"--tracking-uri: '{path}' cannot be written: choose a place you may write to")
    if path.exists():
        with path.open("rb") as file:
            if file.read(16) not in (b"", b"SQLite format 3\0"):
                raise InputError(f"--tracking-uri: '{path}' is not an SQLite database: name another file")
