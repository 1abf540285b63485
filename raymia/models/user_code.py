"""The user's own code, named `package.module:function`: loading it, and the digest that tells its versions apart."""

import ast
import hashlib
import importlib
import importlib.util
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raymia.errors import InputError

INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))


def load_function(setting: str, spec: str) -> Callable[..., Any]:
    """The function named `package.module:function`. setting: what the user set, for the message.

    Raises InputError when the text has another form, the module cannot be imported, or it holds no such function.
    """
    module_name, _, function_name = spec.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), function_name)):
        raise InputError(f"{setting} {spec!r} is not a function's name: write it as package.module:function")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise InputError(
            f"{setting} {spec!r}: cannot import {module_name} ({one_line(error)}): "
            "install it, or put its folder on PYTHONPATH"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        problem = "has no" if function is None else "holds something that cannot be called as"
        raise InputError(f"{setting} {spec!r}: module {module_name} {problem} {function_name}: name a function in it")
    return function


def source_digest(setting: str, spec: str) -> str:
    """sha256 of the sources behind `package.module:function`: its module, and every module of the user's it imports.

    The user's are those of the same top-level package, and those beside it that are not installed libraries. Raises
    InputError when the module cannot be found.
    """
    module_name = spec.partition(":")[0]
    path = _source_of(module_name)
    if path is None:
        raise InputError(
            f"{setting} {spec!r}: no source file of {module_name} is found, and results are named by it: "
            "put its folder on PYTHONPATH"
        )
    root = path.parents[module_name.count(".") + (path.name == "__init__.py")]
    digest = hashlib.sha256()
    for name, source in sorted(_closure(module_name, root).items()):
        digest.update(f"{name}\0{len(source)}\0".encode())
        digest.update(source)
    return digest.hexdigest()


def foreign_digest(kind: type) -> str:
    """'' for a class of raymia's own, whose versions are kept by hand; else the digest of the source behind it."""
    module = kind.__module__
    return "" if module.partition(".")[0] == "raymia" else source_digest(kind.__name__, f"{module}:{kind.__name__}")


def one_line(error: BaseException) -> str:
    """An exception as one line of text."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _closure(module_name: str, root: Path) -> dict[str, bytes]:
    """Sources by module name, of the module and whatever of the user's own it imports, however indirectly."""
    found: dict[str, bytes] = {}
    waiting = {module_name}
    while waiting:
        name = waiting.pop()
        path = _source_of(name) if name not in found and _is_users(name, module_name, root) else None
        if path is not None:
            found[name] = path.read_bytes()
            waiting |= _imported_names(name, path, found[name])
    return found


def _is_users(name: str, module_name: str, root: Path) -> bool:
    """Judged by the top-level package, whose place is found without importing anything."""
    package = name.partition(".")[0]
    if package == module_name.partition(".")[0]:
        return True
    path = None if package == "raymia" else _source_of(package)
    return path is not None and path.is_relative_to(root) and not any(map(path.is_relative_to, INSTALLED))


def _imported_names(name: str, path: Path, source: bytes) -> set[str]:
    """Module names that a source may import, its own parent packages included; some may be no modules at all."""
    parents = name.split(".")[:-1]
    names = {".".join(parents[: depth + 1]) for depth in range(len(parents))}
    package = name if path.name == "__init__.py" else ".".join(parents)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def _source_of(name: str) -> Path | None:
    """The Python file of a module, or None: not a module, built in, or without source."""
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # the parent package runs here, and whatever it raises means that there is no such module
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin).resolve()
