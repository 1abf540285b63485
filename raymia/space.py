"""Spaces: which defenses and hyperparameters a study tries. YAML in, settings out."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from raymia.defenses import build_defense, defense_named
from raymia.errors import InputError
from raymia.models import source_digest
from raymia.recipes.ground import describe, hyperparameters, trained_names
from raymia.seeds import generator
from raymia.training.defense import Composed, Stage
from raymia.yaml_files import configs_folder, find_yaml, read_yaml


class Range(BaseModel):
    """A range to draw from: low and high inclusive; log draws the logarithm evenly."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 with log")
        return self

    def at(self, fraction: float) -> float:
        """The value at a fraction of the way, 0 to 1."""
        if self.log:
            return self.rounded(float(np.exp(np.log(self.low) + fraction * (np.log(self.high) - np.log(self.low)))))
        return self.rounded(self.low + fraction * (self.high - self.low))

    def rounded(self, value: float) -> float:
        """Four digits are enough for any search, and a label shows them all."""
        return min(max(float(f"{value:.4g}"), self.low), self.high)


class Search(BaseModel):
    """How settings are picked. samples: how many, for random and optuna. batch: how many optuna is asked at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    method: Literal["grid", "random", "optuna"] = "grid"
    samples: Annotated[int, Field(ge=1)] = 16
    batch: Annotated[int, Field(ge=1)] = 4


Choices = tuple[Any, ...]
Domain = Choices | Range


@dataclass(frozen=True)
class Branch:
    """One entry of a space: defenses together, each hyperparameter with its choices or range."""

    defenses: Mapping[str, Mapping[str, Domain]]

    def grid(self) -> Iterator["Setting"]:
        """Every combination of the choices. Raises InputError for a range."""
        names, domains = [], []
        for defense, given in self.defenses.items():
            for name, domain in given.items():
                if isinstance(domain, Range):
                    raise InputError(
                        f"{defense}.{name}: a grid needs a list of values, not a range; "
                        "list them, or set search.method to random or optuna"
                    )
                names.append((defense, name))
                domains.append(domain)
        for values in itertools.product(*domains):
            yield self.setting(dict(zip(names, values, strict=True)))

    def setting(self, values: Mapping[tuple[str, str], Any]) -> "Setting":
        """The setting with these values, by (defense, hyperparameter)."""
        parts = [
            build_defense(defense, {name: values[defense, name] for name in given})
            for defense, given in self.defenses.items()
        ]
        return Setting(Composed(tuple(parts)))


@dataclass(frozen=True)
class Setting:
    """One point of a space."""

    defense: Composed

    @property
    def name(self) -> str:
        """The defenses' names, joined by `+`; a setting of the same name differs in hyperparameters."""
        return "+".join(part.name for part in self.defense.parts)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Given values by dotted name, e.g. `mixup.alpha`; defaults that are None are left out."""
        return {
            f"{part.name}.{name}": value
            for part in self.defense.parts
            for name, value in hyperparameters(part).items()
            if value is not None
        }

    @property
    def label(self) -> str:
        """For people, e.g. `mixup alpha=0.3`."""
        return describe(self.defense)


@dataclass(frozen=True)
class Space:
    """A named space. The undefended setting is always its first."""

    name: str
    description: str
    search: Search
    branches: tuple[Branch, ...]

    def settings(self, seed: int) -> list[Setting]:
        """The settings of a grid or random search, undefended first, without repeats.

        For optuna only the undefended one: the others are asked for as the search goes.
        """
        settings = [UNDEFENDED]
        if self.search.method == "grid":
            settings += [setting for branch in self.branches for setting in branch.grid()]
        elif self.search.method == "random":
            settings += self._random_settings(generator(seed, "random search"))
        return list(dict.fromkeys(settings))

    def _random_settings(self, rng: np.random.Generator) -> list[Setting]:
        """As many different settings as were asked for, or as a space of few has."""
        found: dict[Setting, None] = {}
        for _ in range(_TRIES_A_SAMPLE * self.search.samples):
            if len(found) == self.search.samples:
                break
            found[self._random_setting(rng)] = None
        return list(found)

    @property
    def needs_reserve(self) -> bool:
        """Whether some setting of the space wants records of its own: then the plan has them for every setting."""
        settings = (setting for branch in self.branches for setting in _each_value(branch))
        return any(part.needs_reserve for setting in settings for part in setting.defense.parts)

    def _random_setting(self, rng: np.random.Generator) -> Setting:
        branches = [branch for branch in self.branches if "none" not in branch.defenses]
        branch = branches[rng.integers(len(branches))]
        values = {}
        for defense, given in branch.defenses.items():
            for name, domain in given.items():
                draw = rng.random()
                values[defense, name] = (
                    domain.at(draw) if isinstance(domain, Range) else domain[int(draw * len(domain))]
                )
        return branch.setting(values)

    def stop_epochs(self, epochs: int) -> dict[frozenset[str], frozenset[int]]:
        """Epochs after which some setting may release its model, by the defenses that change the training."""
        stops: dict[frozenset[str], frozenset[int]] = {frozenset(): frozenset({epochs})}
        for branch in self.branches:
            for values in _select_choices(branch):
                defense = branch.setting(values).defense
                trained = trained_names(defense)
                stops[trained] = stops.get(trained, frozenset()) | {defense.select(epochs)}
        return stops


_TRIES_A_SAMPLE = 100

UNDEFENDED = Setting(Composed((build_defense("none", {}),)))


def _select_choices(branch: Branch) -> Iterator[dict[tuple[str, str], Any]]:
    """Values of a branch, one for every combination of its `select` hyperparameters, others at their first choice."""
    names, domains = [], []
    for defense, given in branch.defenses.items():
        stages = defense_named(defense).stages
        for name, domain in given.items():
            selects = stages.get(name) is Stage.SELECT
            if isinstance(domain, Range):
                if selects:
                    raise InputError(f"{defense}.{name}: give a list of values; one training keeps the model at each")
                domain = (domain.low,)
            names.append((defense, name))
            domains.append(domain if selects else domain[:1])
    for values in itertools.product(*domains):
        yield dict(zip(names, values, strict=True))


def load_space(name: str) -> Space:
    """A space by its name in `tune_configs/` or its YAML path. Raises InputError that names the key and the remedy."""
    return parse_space(read_yaml(path := find_yaml(name, configs_folder(), "space")), path)


def custom_space(function: str) -> Space:
    """The space of a user's own training, beside the undefended model."""
    branch = Branch({"custom": {"function": (function,)}})
    _check_values(branch)
    source_digest("train", function)
    return Space("custom", f"training by {function}", Search(), (branch,))


def single_space(name: str, defense: str, values: Mapping[str, Any]) -> Space:
    """The space of one setting of one defense."""
    branch = Branch({defense: {hyperparameter: (value,) for hyperparameter, value in values.items()}})
    _check_values(branch)
    return Space(name, f"one setting of {defense}", Search(), (branch,))


def with_search(space: Space, method: str | None, samples: int | None) -> Space:
    """The space searched in another way; None leaves the space's own."""
    changes = {"method": method, "samples": samples}
    content = space.search.model_dump() | {name: value for name, value in changes.items() if value is not None}
    changed = Space(space.name, space.description, Search.model_validate(content), space.branches)
    if changed.search.method != "grid" and all("none" in branch.defenses for branch in space.branches):
        raise InputError(f"--search {changed.search.method}: the space {space.name} has no defense to search over")
    if changed.search.method == "grid":
        changed.settings(0)
    return changed


def list_spaces() -> list[Space]:
    """The built-in spaces, by name."""
    return [load_space(path.stem) for path in sorted(configs_folder().glob("*.yaml"))]


def parse_space(content: Mapping[str, Any], path: Path) -> Space:
    """A space from its YAML content: `description`, `search`, and `settings`, a list of {defense: {name: values}}."""
    for key in content:
        if key not in ("description", "search", "settings"):
            raise InputError(f"{path}: unknown key {key!r}: known are description, search, settings")
    entries = content.get("settings")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: settings must be a list of defenses, e.g. `- mixup: {{alpha: [0.1, 0.2]}}`")
    try:
        search = Search.model_validate(content.get("search", {}))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(["search", *(str(part) for part in problem["loc"])])
        raise InputError(f"{path}: {where}: {problem['msg']}, got {problem['input']!r}") from None
    space = Space(path.stem, str(content.get("description", "")), search, tuple(_branch(e, path) for e in entries))
    if search.method != "grid" and all("none" in branch.defenses for branch in space.branches):
        raise InputError(f"{path}: a {search.method} search needs a defense besides none")
    # Every value is tried on its defense now, so that a bad one is found before anything trains.
    for branch in space.branches:
        _check_values(branch)
    space.stop_epochs(100)
    return space


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


def _each_value(branch: Branch) -> Iterator[Setting]:
    """Settings that try every value of the branch once, both ends of a range, with the others' first."""
    first = {
        (defense, name): domain.low if isinstance(domain, Range) else domain[0]
        for defense, given in branch.defenses.items()
        for name, domain in given.items()
    }
    yield branch.setting(first)
    for defense, name in first:
        domain = branch.defenses[defense][name]
        for value in (domain.low, domain.high) if isinstance(domain, Range) else domain:
            yield branch.setting({**first, (defense, name): value})


def _check_values(branch: Branch) -> None:
    """Build every value once: each that a defense refuses raises InputError."""
    for _ in _each_value(branch):
        pass
