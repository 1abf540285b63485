"""The rows of `frontier.csv`: a row for each setting, attack and seed, then the pooled rows of the setting."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from raymia.errors import InputError
from raymia.metrics.comparison import Delta, auc_delta, robust_delta, utility_delta, worst_of
from raymia.metrics.membership import PRIORS, TARGET_FPRS, AttackMetrics, Estimate, TprAtFpr
from raymia.metrics.places import EVALUATIONS, Frontiers, frontiers
from raymia.metrics.populations import ALL, ANY, arranged, has_apart, parts, special
from raymia.metrics.results import WORST, SettingResult, check_results
from raymia.metrics.robustness import RobustAccuracy
from raymia.metrics.utility import Utility

Row = dict[str, object]

POOLED = "pooled"
# `mixup.alpha` is a hyperparameter; `tpr_at_fpr_0.1_low` is not.
_HYPERPARAMETER = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
NOT_RESOLVABLE = "not resolvable"


def _tpr_name(fpr: float) -> str:
    return f"tpr_at_fpr_{fpr:g}"


def _with_ends(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def robust_name(evaluation: str) -> str:
    """The column of an evaluation's robust accuracy."""
    return f"robust_accuracy_{evaluation}"


_FIRST = ("setting", "defense")
_MEASURED = (
    "seed",
    "train_accuracy",
    "test_accuracy",
    "generalization_gap",
    "test_accuracy_low",
    "test_accuracy_high",
    "ece",
    *chain.from_iterable(_with_ends(robust_name(evaluation)) for evaluation in EVALUATIONS[::-1]),
    "robust_images",
    "epsilon",
    "delta",
    "attack",
    "population",
    "members",
    "nonmembers",
    "auc",
    "auc_low",
    "auc_high",
    "interval_kind",
    *chain.from_iterable((*_with_ends(_tpr_name(fpr)), f"{_tpr_name(fpr)}_realised") for fpr in TARGET_FPRS),
    *_with_ends("balanced_accuracy"),
    *_with_ends("balanced_accuracy_shadow"),
    *(f"ppv_prior_{prior:g}" for prior in PRIORS),
    "epsilon_lower",
    *_with_ends("delta_auc"),
    *_with_ends("delta_test_accuracy"),
    *_with_ends("delta_robust_accuracy"),
    "verdict",
    "on_frontier",
    "p_on_frontier",
    "on_robust_frontier",
    "p_on_robust_frontier",
)


def hyperparameters(row: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that a row's setting has, by column name."""
    return {key: row[key] for key in row if _HYPERPARAMETER.fullmatch(key) and row[key] is not None}


def columns(results: Sequence[SettingResult]) -> list[str]:
    """The table's columns: fixed ones around the union of the settings' hyperparameters, sorted."""
    names = sorted({name for one in results for name in one.hyperparameters})
    for name in names:
        if name in (*_FIRST, *_MEASURED):
            raise InputError(f"hyperparameter {name!r}: the name of a column of frontier.csv; prefix it (mixup.alpha)")
    return [*_FIRST, *names, *_MEASURED]


def rows(results: Sequence[SettingResult], rng: np.random.Generator) -> list[Row]:
    """The study as a table, every row with all `columns` in order; None where there is nothing to say.

    Rows follow the order of results and seeds, then of measures (`populations.arranged`); deterministic by `rng`,
    which resamples the seeds for p_on_frontier and p_on_robust_frontier. Differences to undefended and frontiers are
    on pooled rows only.
    population: `all`, or the part of the members that the row is about; members and nonmembers: the scores counted,
    over all targets in a pooled row. Rows of `generator`, which has members of its own, are compared with nothing.
    The `worst` row carries the AUC of the worst of the setting's attacks on members, with an interval that holds for
    all of them at once; its other attack columns are empty, they stand in that attack's own row. Its population is
    `any` where it was picked over populations apart too, else `all`.
    robust_images: the records attacked for robust accuracies, the fewest where evaluations differ. The robust frontier
    and the differences of robust accuracy are of `places.robust_evaluation`; empty where that is None.
    Raises InputError for two undefended settings, repeated names or seeds, attacks that were not pooled, and names
    that are no measure's.
    """
    check_results(results)
    names = columns(results)
    if not results:
        return []
    undefended = next((one for one in results if one.undefended), None)
    found = frontiers(results, rng)
    filled = chain.from_iterable([*_seed_rows(one), *_pooled_rows(one, undefended, found)] for one in results)
    return [{name: row.get(name) for name in names} for row in filled]


def _seed_rows(result: SettingResult) -> list[Row]:
    return [
        _setting_cells(result)
        | {"seed": one.seed}
        | _utility_cells(one.utility)
        | _robust_cells(one.robustness)
        | _measure_cells(name)
        | _attack_cells(one.attacks[name])
        for one in result.seeds
        for name in arranged(one.attacks)
    ]


def _pooled_rows(result: SettingResult, undefended: SettingResult | None, found: Frontiers) -> list[Row]:
    if not result.pooled:
        return []
    shared = _setting_cells(result) | {"seed": POOLED} | _utility_cells(result.utility)
    shared |= _robust_cells(result.robustness)
    cells = {name: _measure_cells(name) | _attack_cells(result.pooled[name]) for name in arranged(result.pooled)}
    cells[WORST] = _worst_cells(result)
    return [shared | measured | _compared_cells(result, undefended, name, found) for name, measured in cells.items()]


def _setting_cells(result: SettingResult) -> Row:
    cells: Row = {"setting": result.setting, "defense": result.defense, **result.hyperparameters}
    if result.guarantee is not None:
        cells |= {"epsilon": result.guarantee.epsilon, "delta": result.guarantee.delta}
    return cells


def _utility_cells(utility: Utility) -> Row:
    return {
        "train_accuracy": utility.train_accuracy,
        "test_accuracy": utility.test_accuracy,
        "generalization_gap": utility.generalization_gap,
        "test_accuracy_low": utility.test_accuracy_low,
        "test_accuracy_high": utility.test_accuracy_high,
        "ece": utility.ece,
    }


def _robust_cells(robustness: Mapping[str, RobustAccuracy]) -> Row:
    cells: Row = {}
    for evaluation, one in robustness.items():
        cells |= dict(zip(_with_ends(robust_name(evaluation)), (one.accuracy, one.low, one.high), strict=True))
    return cells | {"robust_images": min((one.images for one in robustness.values()), default=None)}


def _measure_cells(name: str) -> Row:
    attack, population = parts(name)
    return {"attack": attack, "population": population}


def _attack_cells(metrics: AttackMetrics) -> Row:
    cells: Row = {
        "members": metrics.members,
        "nonmembers": metrics.nonmembers,
        "auc": metrics.auc,
        "auc_low": metrics.auc_low,
        "auc_high": metrics.auc_high,
        "interval_kind": metrics.interval_kind,
    }
    for point in metrics.tpr:
        cells |= _tpr_cells(point)
    cells |= _estimate_cells("balanced_accuracy", metrics.balanced_accuracy)
    if metrics.balanced_accuracy_shadow is not None:
        cells |= _estimate_cells("balanced_accuracy_shadow", metrics.balanced_accuracy_shadow)
    cells |= {f"ppv_prior_{one.prior:g}": one.value for one in metrics.ppv}
    return cells | {"epsilon_lower": metrics.epsilon_lower}


def _tpr_cells(point: TprAtFpr) -> Row:
    name, low, high = _with_ends(_tpr_name(point.target_fpr))
    value = NOT_RESOLVABLE if point.tpr is None else point.tpr
    return {name: value, low: point.low, high: point.high, f"{name}_realised": point.realised_fpr}


def _estimate_cells(name: str, estimate: Estimate) -> Row:
    return dict(zip(_with_ends(name), (estimate.value, estimate.low, estimate.high), strict=True))


def _worst_cells(result: SettingResult) -> Row:
    worst = worst_of(result)
    cells: Row = {
        "attack": WORST,
        "population": ANY if has_apart(result.pooled) else ALL,
        "auc": worst.auc,
        "interval_kind": result.pooled[worst.attack].interval_kind,
    }
    if worst.interval is not None:
        cells |= {"auc_low": worst.interval.low, "auc_high": worst.interval.high}
    return cells


def _compared_cells(result: SettingResult, undefended: SettingResult | None, name: str, found: Frontiers) -> Row:
    if special(name):
        return {}
    auc, verdict = auc_delta(result, undefended, name)
    place, robust_place = found.plain[result.setting, name], found.robust.get((result.setting, name))
    cells = _delta_cells("delta_auc", auc) | {"verdict": verdict, "on_frontier": place.on, "p_on_frontier": place.p}
    if robust_place is not None:
        cells |= {"on_robust_frontier": robust_place.on, "p_on_robust_frontier": robust_place.p}
    if undefended is None or result.undefended:
        return cells
    cells |= _delta_cells("delta_test_accuracy", utility_delta(result, undefended))
    if found.evaluation is not None:
        cells |= _delta_cells("delta_robust_accuracy", robust_delta(result, undefended, found.evaluation))
    return cells


def _delta_cells(name: str, delta: Delta) -> Row:
    low, high = (None, None) if delta.interval is None else (delta.interval.low, delta.interval.high)
    return dict(zip(_with_ends(name), (delta.value, low, high), strict=True))
