"""Spaces as YAML files: the built-in ones and the user's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from raymia.config import Evaluation
from raymia.defenses import defense_named
from raymia.errors import InputError
from raymia.space import Branch, Domain, Range, Search, Space, check_values
from raymia.yaml_files import configs_folder, find_yaml, read_yaml

_KEYS = ("description", "search", "robustness", "settings")


def load_space(name: str) -> Space:
    """A space by its name in `tune_configs/` or its YAML path. Raises InputError that names the key and the remedy."""
    return parse_space(read_yaml(path := find_yaml(name, configs_folder(), "space")), path)


def list_spaces() -> list[Space]:
    """The built-in spaces, by name."""
    return [load_space(path.stem) for path in sorted(configs_folder().glob("*.yaml"))]


def parse_space(content: Mapping[str, Any], path: Path) -> Space:
    """A space from its YAML content: `description`, `search`, `robustness` (evaluations), and `settings`, a list of
    {defense: {name: values}}.
    """
    for key in content:
        if key not in _KEYS:
            raise InputError(f"{path}: unknown key {key!r}: known are {', '.join(_KEYS)}")
    entries = content.get("settings")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: settings must be a list of defenses, e.g. `- mixup: {{alpha: [0.1, 0.2]}}`")
    try:
        search = Search.model_validate(content.get("search", {}))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(["search", *(str(part) for part in problem["loc"])])
        raise InputError(f"{path}: {where}: {problem['msg']}, got {problem['input']!r}") from None
    branches = tuple(_branch(entry, path) for entry in entries)
    evaluations = _evaluations(content.get("robustness", []), path)
    space = Space(path.stem, str(content.get("description", "")), search, branches, evaluations)
    if search.method != "grid" and all("none" in branch.defenses for branch in space.branches):
        raise InputError(f"{path}: a {search.method} search needs a defense besides none")
    # Every value is tried on its defense now, so that a bad one is found before anything trains.
    for branch in space.branches:
        check_values(branch)
    space.stop_epochs(100)
    return space


def _evaluations(given: Any, path: Path) -> tuple[Evaluation, ...]:
    known = get_args(Evaluation)
    if not isinstance(given, list) or any(name not in known for name in given):
        raise InputError(f"{path}: robustness is a list out of {', '.join(known)}, got {given!r}")
    return tuple(given)


def _branch(entry: Any, path: Path) -> Branch:
    if not isinstance(entry, dict) or not entry:
        raise InputError(f"{path}: each of settings is a mapping from defense to hyperparameters, got {entry!r}")
    defenses = {}
    for defense, given in entry.items():
        defense_named(str(defense))
        if given is not None and not isinstance(given, dict):
            raise InputError(f"{path}: {defense}: give a mapping of hyperparameters, got {given!r}")
        defenses[str(defense)] = {
            str(name): _domain(value, f"{path}: {defense}.{name}") for name, value in (given or {}).items()
        }
    for alone in ("none", "custom"):
        if alone in defenses and len(defenses) > 1:
            raise InputError(f"{path}: {alone} stands alone; take it out of {' + '.join(defenses)}")
    return Branch(defenses)


def _domain(value: Any, where: str) -> Domain:
    if isinstance(value, dict):
        try:
            return Range.model_validate(value)
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise InputError(f"{where}: a range is {{low: , high: , log: }}: {message}") from None
    if isinstance(value, list):
        if not value:
            raise InputError(f"{where}: the list of values is empty")
        return tuple(value)
    return (value,)
