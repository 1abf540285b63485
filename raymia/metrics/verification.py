"""What a verification found: how much the search flattered a setting, and how much its attacks missed.

A search reports the best of many noisy numbers, and by weak attacks. Both make a defense look better than it is, and
they are measured apart: `optimism` is the AUC of the attack that was the search's worst on a setting, on fresh targets
minus in the search; `gap` is the AUC of the strongest other attack minus that one's, on the same fresh targets.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from raymia.errors import InputError
from raymia.metrics.intervals import ALPHA, Interval, paired_t_interval, t_interval, t_quantile
from raymia.metrics.places import EVALUATIONS
from raymia.metrics.populations import SPECIAL, named
from raymia.metrics.results import UNDEFENDED, WORST
from raymia.metrics.summary import POOLED, hyperparameters, robust_name

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Measurement:
    """A mean over targets with its 95% interval (None: one target)."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class VerifiedSetting:
    """One setting, searched and verified. AUCs and accuracies are fractions, differences of them too.

    weak: the measure that was the worst of the search. strong: the worst of all measures on the fresh targets; its
    interval and the gap's hold for every measure it was picked from at once. robust: by the evaluation's name, for
    those that both studies made, the robust accuracy in the search and on the fresh targets.
    """

    setting: str
    defense: str
    weak: str
    strong: str
    searched_auc: Measurement
    weak_auc: Measurement
    strong_auc: Measurement
    optimism: Measurement
    gap: Measurement
    searched_accuracy: Measurement
    accuracy: Measurement
    robust: Mapping[str, tuple[Measurement, Measurement]]


def verified_settings(searched: Sequence[Row], fresh: Sequence[Row]) -> list[VerifiedSetting]:
    """Every setting of the verification that the search had too, in the verification's order.

    searched, fresh: rows of the two studies' `frontier.csv`. Raises InputError where none is in both.
    """
    both = [name for name in _settings(fresh) if name in set(_settings(searched))]
    if not both:
        raise InputError("verification: no setting is in both tables; verify the study that these settings come from")
    return [_verified(name, _of(searched, name), _of(fresh, name)) for name in both]


def to_verify(rows: Sequence[Row], neighbors: bool = True) -> list[str]:
    """The settings worth a verification: undefended, the worst attack's frontiers (with robust accuracy and without),
    and the latter's neighbors.

    A neighbor has the same defense and differs in one number, by one step among the values tried. In the order of rows.
    """
    worst = [row for row in rows if row["seed"] == POOLED and row["attack"] == WORST]
    chosen = {row["setting"] for row in worst if row["on_frontier"] or row["defense"] == UNDEFENDED}
    chosen |= {row["setting"] for row in worst if row.get("on_robust_frontier")}
    if neighbors:
        chosen |= {other["setting"] for row in worst if row["on_frontier"] for other in _neighbors(row, worst)}
    return [row["setting"] for row in worst if row["setting"] in chosen]


def _neighbors(row: Row, rows: Sequence[Row]) -> list[Row]:
    own = hyperparameters(row)
    found = []
    for name, value in own.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        rest = {key: one for key, one in own.items() if key != name}
        others = [
            one
            for one in rows
            if one["defense"] == row["defense"]
            and {key: each for key, each in hyperparameters(one).items() if key != name} == rest
        ]
        below = [one for one in others if hyperparameters(one)[name] < value]
        above = [one for one in others if hyperparameters(one)[name] > value]
        found += [max(below, key=lambda one: hyperparameters(one)[name])] if below else []
        found += [min(above, key=lambda one: hyperparameters(one)[name])] if above else []
    return found


def _verified(name: str, searched: Sequence[Row], fresh: Sequence[Row]) -> VerifiedSetting:
    old, new = _aucs(searched), _aucs(fresh)
    weak = max((one for one in old if one in new), key=lambda one: np.mean(list(old[one].values())))
    gaps = {one: _paired(new[one], new[weak], len(new)) for one in new}
    strong = max(new, key=lambda one: np.mean(list(new[one].values())))
    return VerifiedSetting(
        setting=name,
        defense=str(fresh[0]["defense"]),
        weak=weak,
        strong=strong,
        searched_auc=_mean(old[weak]),
        weak_auc=_mean(new[weak]),
        strong_auc=_largest([_mean(one, len(new)) for one in new.values()]),
        optimism=_independent(list(new[weak].values()), list(old[weak].values())),
        gap=_largest([gap for one, gap in gaps.items() if one != weak] or [gaps[weak]]),
        searched_accuracy=_mean(_accuracies(searched)),
        accuracy=_mean(_accuracies(fresh)),
        robust=_robust(searched, fresh),
    )


def _aucs(rows: Sequence[Row]) -> dict[str, dict[int, float]]:
    """AUC by seed of every measure of members."""
    found: dict[str, dict[int, float]] = {}
    for row in _by_seed(rows):
        if row["population"] not in SPECIAL:
            found.setdefault(named(row["attack"], row["population"]), {})[row["seed"]] = row["auc"]
    return found


def _accuracies(rows: Sequence[Row], column: str = "test_accuracy") -> dict[int, float]:
    return {row["seed"]: row[column] for row in _by_seed(rows) if row.get(column) is not None}


def _robust(searched: Sequence[Row], fresh: Sequence[Row]) -> dict[str, tuple[Measurement, Measurement]]:
    found = {}
    for evaluation in EVALUATIONS[::-1]:
        old, new = (_accuracies(rows, robust_name(evaluation)) for rows in (searched, fresh))
        if old and new:
            found[evaluation] = (_mean(old), _mean(new))
    return found


def _by_seed(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["seed"] != POOLED]


def _mean(values: Mapping[int, float], choices: int = 1) -> Measurement:
    interval = t_interval(list(values.values()), ALPHA / choices)
    return Measurement(float(np.mean(list(values.values()))), interval and interval.clipped(0, 1))


def _paired(ours: Mapping[int, float], theirs: Mapping[int, float], choices: int) -> Measurement:
    seeds = sorted(ours.keys() & theirs.keys())
    mine, other = [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
    return Measurement(float(np.mean(np.subtract(mine, other))), paired_t_interval(mine, other, ALPHA / choices))


def _largest(measured: Sequence[Measurement]) -> Measurement:
    """The largest of several, with an interval of the largest true value (each is at level ALPHA / k)."""
    value = max(one.value for one in measured)
    known = [one.interval for one in measured if one.interval is not None]
    if len(known) < len(measured):
        return Measurement(value, None)
    return Measurement(value, Interval(max(one.low for one in known), max(one.high for one in known)))


def _independent(ours: Sequence[float], theirs: Sequence[float]) -> Measurement:
    """The difference of two means over different targets, by Welch's t (1947)."""
    difference = float(np.mean(ours) - np.mean(theirs))
    if min(len(ours), len(theirs)) < 2:
        return Measurement(difference, None)
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (ours, theirs)]
    variance = sum(parts)
    if variance == 0:
        return Measurement(difference, Interval(difference, difference))
    freedom = variance**2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, (ours, theirs), strict=True))
    half = t_quantile(ALPHA, freedom) * sqrt(variance)
    return Measurement(difference, Interval(difference - half, difference + half))


def _settings(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(str(row["setting"]) for row in rows))


def _of(rows: Iterable[Row], setting: str) -> list[Row]:
    return [row for row in rows if row["setting"] == setting]
