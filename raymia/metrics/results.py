"""What a study measured, setting by setting and seed by seed: the input of the frontier's table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymia.errors import InputError
from raymia.metrics.membership import AttackMetrics
from raymia.metrics.utility import Utility, pool_utilities

UNDEFENDED = "none"
WORST = "worst"


@dataclass(frozen=True)
class SeedResult:
    """One target model of a setting: its utility and each attack's metrics."""

    seed: int
    utility: Utility
    attacks: dict[str, AttackMetrics]


@dataclass(frozen=True)
class SettingResult:
    """One setting: its targets, and each attack over all of them (`membership.pool_targets`)."""

    setting: str
    defense: str
    hyperparameters: dict[str, float | int | str | bool]
    seeds: tuple[SeedResult, ...]
    pooled: dict[str, AttackMetrics]

    @property
    def utility(self) -> Utility:
        """Utility over the targets."""
        return pool_utilities([one.utility for one in self.seeds])

    @property
    def undefended(self) -> bool:
        return self.defense == UNDEFENDED

    def aucs(self, attack: str) -> dict[int, float]:
        """The attack's AUC by seed."""
        return {one.seed: one.attacks[attack].auc for one in self.seeds if attack in one.attacks}

    def test_accuracies(self) -> dict[int, float]:
        """Test accuracy by seed."""
        return {one.seed: one.utility.test_accuracy for one in self.seeds}


def check_results(results: Sequence[SettingResult]) -> None:
    """Raise InputError for what no table can be made of."""
    names = [one.setting for one in results]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"setting {name!r}: given twice; give each setting its own name")
    if sum(one.undefended for one in results) > 1:
        raise InputError(f"defense {UNDEFENDED!r}: two settings have it; differences need exactly one to refer to")
    for one in results:
        seeds = [seed.seed for seed in one.seeds]
        if not seeds or len(set(seeds)) < len(seeds):
            raise InputError(f"setting {one.setting!r}: seeds {seeds}; give one or more, each once")
        run = {attack for seed in one.seeds for attack in seed.attacks}
        if run != set(one.pooled):
            raise InputError(f"setting {one.setting!r}: attacks {sorted(run)}, pooled {sorted(one.pooled)}; pool each")
        if WORST in one.pooled:
            raise InputError(f"attack {WORST!r}: the name of the worst of all attacks; rename yours")


def all_seeds(results: Sequence[SettingResult]) -> list[int]:
    """The seeds of all settings, ascending."""
    return sorted({seed.seed for one in results for seed in one.seeds})


def all_attacks(results: Sequence[SettingResult]) -> list[str]:
    """The attacks of all settings, in the order they first appear."""
    return list(dict.fromkeys(attack for one in results for attack in one.pooled))


def by_seed(values: dict[int, float], seeds: Sequence[int]) -> NDArray[np.float64]:
    """float64[K] in the order of seeds, NaN where one is missing."""
    return np.array([values.get(seed, np.nan) for seed in seeds])
