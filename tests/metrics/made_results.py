"""Results of settings that were never trained, for the tests of the table."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from raymia.metrics.intervals import t_interval
from raymia.metrics.membership import AttackMetrics, Estimate, Ppv, TprAtFpr
from raymia.metrics.results import SeedResult, SettingResult
from raymia.metrics.robustness import measure_robustness
from raymia.metrics.summary import rows
from raymia.metrics.utility import Utility

Row = dict[str, object]
Rows = list[Row]


def attack_metrics(auc: float, low: float | None = None, high: float | None = None) -> AttackMetrics:
    return AttackMetrics(
        auc=auc,
        auc_low=auc - 0.05 if low is None else low,
        auc_high=auc + 0.05 if high is None else high,
        tpr=(TprAtFpr(0.1, 0.09, 0.2, 0.15, 0.25), TprAtFpr(0.01), TprAtFpr(0.001)),
        balanced_accuracy=Estimate(0.58, 0.52, 0.61),
        balanced_accuracy_shadow=None,
        ppv=(Ppv(0.01, 0.02), Ppv(0.1, 0.198)),
        ppv_fpr=0.1,
        members=150,
        nonmembers=150,
        interval_kind="records",
    )


def utility(test: float) -> Utility:
    return Utility(1.0, test, 1.0 - test, test - 0.03, test + 0.03, 0.1, 150, 150)


def setting(
    name: str,
    defense: str,
    accuracies: Sequence[float],
    aucs: Mapping[str, Sequence[float]],
    hyperparameters: Mapping[str, float | str] = MappingProxyType({}),
) -> SettingResult:
    seeds = tuple(
        SeedResult(seed, utility(test), {attack: attack_metrics(series[seed]) for attack, series in aucs.items()})
        for seed, test in enumerate(accuracies)
    )
    pooled = {}
    for attack, series in aucs.items():
        interval = t_interval(series)
        if interval is None:
            pooled[attack] = attack_metrics(series[0])
        else:
            pooled[attack] = replace(
                attack_metrics(float(np.mean(series)), interval.low, interval.high), interval_kind="seeds"
            )
    return SettingResult(name, defense, dict(hyperparameters), seeds, pooled)


def withstanding(result: SettingResult, images: int = 200, **accuracies: Sequence[float]) -> SettingResult:
    """The setting with robust accuracies, by evaluation and seed: whole numbers of the images."""
    seeds = []
    for index, seed in enumerate(result.seeds):
        counts = {name: round(images * series[index]) for name, series in accuracies.items()}
        robustness = {name: measure_robustness(np.arange(images) < count) for name, count in counts.items()}
        seeds.append(replace(seed, robustness=robustness))
    return replace(result, seeds=tuple(seeds))


def table(results: Sequence[SettingResult]) -> Rows:
    return rows(results, np.random.default_rng(0))


def row(table: Rows, setting: str, attack: str, seed: object = "pooled", population: str | None = None) -> Row:
    found = [
        one
        for one in table
        if (one["setting"], one["attack"], one["seed"]) == (setting, attack, seed)
        and population in (None, one["population"])
    ]
    assert len(found) == 1
    return found[0]
