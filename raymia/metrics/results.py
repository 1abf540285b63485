"""What a study measured, setting by setting and seed by seed: the input of the frontier's table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from raymia.errors import InputError
from raymia.metrics.intervals import Interval
from raymia.metrics.membership import AttackMetrics
from raymia.metrics.populations import has_apart, of_members, parts
from raymia.metrics.robustness import RobustAccuracy, pool_robustness
from raymia.metrics.utility import Utility, pool_utilities
from raymia.privacy import Guarantee

UNDEFENDED = "none"
WORST = "worst"


@dataclass(frozen=True)
class SeedResult:
    """One target model of a setting: its utility, and each attack's metrics by measure name (`populations`).

    robustness: by evaluation (`pgd20`, `aa`), what it withstands; empty where that was not measured.
    """

    seed: int
    utility: Utility
    attacks: dict[str, AttackMetrics]
    robustness: Mapping[str, RobustAccuracy] = field(default_factory=dict)


@dataclass(frozen=True)
class SettingResult:
    """One setting: its targets, and each attack over all of them (`membership.pool_targets`) by measure name.

    guarantee: what its training spends of the members' privacy, by an accountant; None without DP-SGD.
    paired: the AUC differences to undefended on the same records, (value, interval) by measure name and for `worst`,
    from `comparison.paired_on_records`. They are used where a single seed leaves no interval over seeds.
    """

    setting: str
    defense: str
    hyperparameters: dict[str, float | int | str | bool]
    seeds: tuple[SeedResult, ...]
    pooled: dict[str, AttackMetrics]
    guarantee: Guarantee | None = None
    paired: Mapping[str, tuple[float, Interval]] = field(default_factory=dict)

    @property
    def utility(self) -> Utility:
        """Utility over the targets."""
        return pool_utilities([one.utility for one in self.seeds])

    @property
    def robustness(self) -> dict[str, RobustAccuracy]:
        """What it withstands, over the targets, by evaluation."""
        names = dict.fromkeys(name for one in self.seeds for name in one.robustness)
        return {
            name: pool_robustness([one.robustness[name] for one in self.seeds if name in one.robustness])
            for name in names
        }

    @property
    def undefended(self) -> bool:
        return self.defense == UNDEFENDED

    def aucs(self, name: str) -> dict[int, float]:
        """The measure's AUC by seed."""
        return {one.seed: one.attacks[name].auc for one in self.seeds if name in one.attacks}

    def robust_accuracies(self, evaluation: str) -> dict[int, float]:
        """Robust accuracy by seed."""
        return {one.seed: one.robustness[evaluation].accuracy for one in self.seeds if evaluation in one.robustness}

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
        run = {name for seed in one.seeds for name in seed.attacks}
        if run != set(one.pooled):
            raise InputError(f"setting {one.setting!r}: attacks {sorted(run)}, pooled {sorted(one.pooled)}; pool each")
        _check_measures(one)


def _check_measures(result: SettingResult) -> None:
    members = of_members(result.pooled)
    for name in result.pooled:
        if parts(name)[0] == WORST:
            raise InputError(f"attack {WORST!r}: the name of the worst of all attacks; rename yours")
    for name in members:
        attack, _ = parts(name)
        if attack not in members:
            raise InputError(f"setting {result.setting!r}: {name} without {attack}; measure all members too")
    if result.pooled and not members:
        raise InputError(f"setting {result.setting!r}: attacks on the generator alone; run one on the model too")
    if result.undefended and has_apart(members):
        raise InputError(f"setting {result.setting!r}: populations apart; undefended is trained on all its members")


def all_seeds(results: Sequence[SettingResult]) -> list[int]:
    """The seeds of all settings, ascending."""
    return sorted({seed.seed for one in results for seed in one.seeds})


def all_measures(results: Sequence[SettingResult]) -> list[str]:
    """The measures of members of all settings, arranged; attacks in the order they first appear."""
    return of_members(name for one in results for name in one.pooled)


def by_seed(values: dict[int, float], seeds: Sequence[int]) -> NDArray[np.float64]:
    """float64[K] in the order of seeds, NaN where one is missing."""
    return np.array([values.get(seed, np.nan) for seed in seeds])
