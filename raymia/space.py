"""Spaces: which defenses and hyperparameters a study tries. YAML in, settings out."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from raymia.config import Evaluation
from raymia.defenses import build_defense, defense_named
from raymia.errors import InputError
from raymia.models import load_function, source_digest
from raymia.recipes.ground import describe, hyperparameters, trained_names
from raymia.seeds import generator
from raymia.training.defense import Composed, Stage


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


Objective = Literal["test_accuracy", "robust_accuracy_pgd20", "robust_accuracy_aa", "worst_auc", "worst_tpr"]

# What is to be raised; the others, the largest AUC and TPR over all attacks, are to be lowered.
RAISED = frozenset({"test_accuracy", "robust_accuracy_pgd20", "robust_accuracy_aa"})


class Search(BaseModel):
    """How settings are picked. samples: how many, for random and optuna. batch: how many optuna is asked at once.

    objectives: what optuna goes by. `worst_tpr` is at the lowest false-positive rate that the study's non-members
    resolve.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    method: Literal["grid", "random", "optuna"] = "grid"
    samples: Annotated[int, Field(ge=1)] = 16
    batch: Annotated[int, Field(ge=1)] = 4
    objectives: Annotated[tuple[Objective, ...], Field(min_length=2)] = ("test_accuracy", "worst_auc")


_ROBUST = "robust_accuracy_"

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
    """A named space. The undefended setting is always its first.

    robustness: the evaluations of robust accuracy that its studies make, besides those they are told to.
    """

    name: str
    description: str
    search: Search
    branches: tuple[Branch, ...]
    robustness: tuple[Evaluation, ...] = ()

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
    def evaluations(self) -> frozenset[str]:
        """The evaluations of robust accuracy that it wants, and those that its search goes by."""
        objectives = self.search.objectives if self.search.method == "optuna" else ()
        searched = [name.removeprefix(_ROBUST) for name in objectives if name.startswith(_ROBUST)]
        return frozenset([*self.robustness, *searched])

    @property
    def compositions(self) -> list[Composed]:
        """One setting's defenses of each entry."""
        return [next(_each_value(branch)).defense for branch in self.branches]

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


def custom_space(function: str) -> Space:
    """The space of a user's own training, beside the undefended model. Raises InputError for what is no function."""
    branch = Branch({"custom": {"function": (function,)}})
    check_values(branch)
    load_function("train", function)
    source_digest("train", function)
    return Space("custom", f"training by {function}", Search(), (branch,))


def single_space(name: str, defense: str, values: Mapping[str, Any]) -> Space:
    """The space of one setting of one defense."""
    branch = Branch({defense: {hyperparameter: (value,) for hyperparameter, value in values.items()}})
    check_values(branch)
    return Space(name, f"one setting of {defense}", Search(), (branch,))


def with_search(space: Space, method: str | None, samples: int | None) -> Space:
    """The space searched in another way; None leaves the space's own."""
    changes = {"method": method, "samples": samples}
    content = space.search.model_dump() | {name: value for name, value in changes.items() if value is not None}
    changed = replace(space, search=Search.model_validate(content))
    if changed.search.method != "grid" and all("none" in branch.defenses for branch in space.branches):
        raise InputError(f"--search {changed.search.method}: the space {space.name} has no defense to search over")
    if changed.search.method == "grid":
        changed.settings(0)
    return changed


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


def check_values(branch: Branch) -> None:
    """Build every value once: each that a defense refuses raises InputError."""
    for _ in _each_value(branch):
        pass
