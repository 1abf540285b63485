"""Rows of studies with robust accuracies, which no model ever had: the report only reads them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from raymia.metrics.results import SettingResult
from tests.metrics.made_results import setting, table, withstanding

Row = dict[str, Any]

METHODS = {
    "pgd_at": (0.72, 0.44, 0.78),
    "trades": (0.70, 0.46, 0.74),
    "mart": (0.69, 0.47, 0.72),
    "awp": (0.715, 0.48, 0.70),
    "trades_awp": (0.70, 0.49, 0.68),
}
WEIGHTS = (0.0, 0.2, 0.4, 0.6)


def robust_results(
    *methods: str, seeds: int = 3, images: int = 500, evaluations: Sequence[str] = ("pgd20", "aa")
) -> list[SettingResult]:
    """Undefended, mixup, and methods (all of `METHODS` when none is named) at four weights of DeMem."""
    draw = np.random.default_rng(3)
    plan: list[tuple[str, dict[str, float], tuple[float, float, float]]] = [
        ("none", {}, (0.86, 0.0, 0.70)),
        ("mixup", {"mixup.alpha": 0.5}, (0.865, 0.0, 0.66)),
    ]
    for method in methods or METHODS:
        accuracy, robust, auc = METHODS[method]
        for weight in WEIGHTS:
            values = (accuracy - 0.03 * weight, robust - 0.02 * weight, auc - 0.25 * weight)
            plan.append((method, {"demem.weight": weight}, values))
    found = []
    for defense, hyperparameters, (accuracy, robust, auc) in plan:
        label = " ".join([defense, *(f"{name}={value:g}" for name, value in hyperparameters.items())])
        accuracies = (accuracy + draw.normal(0, 0.006, seeds)).tolist()
        aucs = {name: (auc + more + draw.normal(0, 0.01, seeds)).tolist() for name, more in (("loss", 0), ("nn", 0.02))}
        one = setting(label, defense, accuracies, aucs, hyperparameters)
        spread = draw.normal(0, 0.02, seeds) * (robust > 0)
        found.append(withstanding(one, images, **{name: _robust(name, robust, spread) for name in evaluations}))
    return found


def robust_rows(*methods: str, **options: Any) -> list[Row]:
    """The rows of `frontier.csv`."""
    return table(robust_results(*methods, **options))


def without_one(results: Sequence[SettingResult], number: int) -> list[Row]:
    """The rows where one setting was not attacked for robustness."""
    changed = list(results)
    changed[number] = replace(
        changed[number], seeds=tuple(replace(one, robustness={}) for one in changed[number].seeds)
    )
    return table(changed)


def _robust(evaluation: str, accuracy: float, spread: Any) -> list[float]:
    drop = 0.025 if evaluation == "aa" else 0.0
    values: list[float] = np.maximum(accuracy + spread - drop, 0).tolist()
    return values
