"""Who proposes the settings to try: a list (grid, random), or Optuna in fixed batches, so that a search repeats."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import optuna

from raymia.seeds import derive_seed
from raymia.space import RAISED, UNDEFENDED, Branch, Range, Setting, Space

Outcome = Mapping[str, float]
"""What was measured of a setting, by the names of objectives."""


class Proposer(Protocol):
    """A source of settings."""

    total: int

    def propose(self) -> list[Setting]:
        """The next batch, all of whose outcomes are told before the one after; empty at the end."""
        ...

    def tell(self, outcomes: Sequence[Outcome | None]) -> None:
        """The batch's outcomes in its order; None for a setting that failed."""
        ...


class ListProposer:
    """Settings known beforehand, in one batch."""

    def __init__(self, settings: Sequence[Setting]) -> None:
        self._settings = list(settings)
        self.total = len(self._settings)

    def propose(self) -> list[Setting]:
        settings, self._settings = self._settings, []
        return settings

    def tell(self, outcomes: Sequence[Outcome | None]) -> None:
        """A list does not learn."""


class OptunaProposer:
    """Multi-objective search by Optuna's TPE: the undefended setting first, then batches of `search.batch`.

    Asked and told in a fixed order, so the same study proposes the same settings however its trials were scheduled.
    """

    def __init__(self, space: Space, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._objectives = space.search.objectives
        directions = ["maximize" if name in RAISED else "minimize" for name in self._objectives]
        sampler = optuna.samplers.TPESampler(seed=derive_seed(seed, "optuna") % 2**32)
        self._study = optuna.create_study(directions=directions, sampler=sampler)
        self._branches = _by_name(branch for branch in space.branches if "none" not in branch.defenses)
        self._space = space
        self._asked: list[optuna.Trial] = []
        self._count = 0
        self._begun = False
        self.total = space.search.samples + 1

    def propose(self) -> list[Setting]:
        if not self._begun:
            self._begun = True
            return [UNDEFENDED]
        count = min(self._space.search.batch, self._space.search.samples - self._count)
        self._asked = [self._study.ask() for _ in range(count)]
        self._count += count
        return [self._setting(trial) for trial in self._asked]

    def tell(self, outcomes: Sequence[Outcome | None]) -> None:
        # The undefended setting was not asked of Optuna.
        for trial, outcome in zip(self._asked, outcomes if self._asked else (), strict=True):
            if outcome is None:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(trial, [outcome[name] for name in self._objectives])

    def _setting(self, trial: optuna.Trial) -> Setting:
        name = trial.suggest_categorical("defense", list(self._branches))
        return self._branches[name].setting(_suggested(trial, name, self._branches[name]))


def _by_name(branches: Iterable[Branch]) -> dict[str, Branch]:
    """The branches by their defenses' names; numbered where several have the same."""
    found: dict[str, Branch] = {}
    for branch in branches:
        name = "+".join(branch.defenses)
        found[name if name not in found else f"{name} ({len(found) + 1})"] = branch
    return found


def _suggested(trial: optuna.Trial, prefix: str, branch: Branch) -> dict[tuple[str, str], Any]:
    values: dict[tuple[str, str], Any] = {}
    for defense, hyperparameters in branch.defenses.items():
        for name, domain in hyperparameters.items():
            dotted = f"{prefix}/{defense}.{name}"
            if isinstance(domain, Range):
                drawn = trial.suggest_float(dotted, domain.low, domain.high, log=domain.log)
                values[defense, name] = domain.rounded(drawn)
            else:
                values[defense, name] = trial.suggest_categorical(dotted, list(domain))
    return values


def proposer(space: Space, seed: int) -> Proposer:
    """The space's own way of searching."""
    return OptunaProposer(space, seed) if space.search.method == "optuna" else ListProposer(space.settings(seed))
