"""YAML files: where the built-in ones are, how one is found by its name, read, and an assignment in it parsed."""

import difflib
import sys
from pathlib import Path
from typing import Any

import yaml

import raymia
from raymia.errors import InputError


def configs_folder() -> Path:
    """Where the built-in spaces and presets are: in a checkout, else where an installed wheel put them."""
    checkout = Path(raymia.__file__).resolve().parent.parent / "tune_configs"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "raymia" / "tune_configs"


def parse_assignment(text: str) -> tuple[str, Any]:
    """`training.epochs=30` as (key, value); the value is read as YAML. Raises InputError without a `=`."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {text}: write it as section.key=value, e.g. --set training.epochs=30")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"--set {text}: the value is not readable as YAML; quote it") from None


def find_yaml(name: str, folder: Path, what: str) -> Path:
    """The file of a built-in name or of a path. Raises InputError with the nearest name."""
    for candidate in (folder / f"{name}.yaml", Path(name)):
        if candidate.is_file():
            return candidate
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    raise InputError(f"unknown {what} {name!r}: {suggestion(name, known)} (or give the path of a YAML file)")


def suggestion(name: str, known: list[str]) -> str:
    """What the user may have meant, in words."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}? Known: {', '.join(known)}" if close else f"known are {', '.join(known)}"


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file. Raises InputError that names the file and the line."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        at = f" at line {where.line + 1}" if where is not None else ""
        raise InputError(f"{path}: not readable as YAML{at}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold a YAML mapping")
    return content
