"""What a verification found: how much the search flattered a setting, and how much its attacks missed.

A search reports the best of many noisy numbers, and by weak attacks. Both make a defense look better than it is, and
they are measured apart: `optimism` is the AUC of the attack that was the search's worst on a setting, on fresh targets
minus in the search; `gap` is the AUC of the strongest other attack minus that one's, on the same fresh targets.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raymia.errors import InputError
from raymia.metrics.delong import widen_auc_interval
from raymia.metrics.intervals import (
    ALPHA,
    Interval,
    difference_interval,
    paired_t_interval,
    t_interval,
    welch_interval,
)
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
    old, new = _areas(searched), _areas(fresh)
    weak = max((one for one in old if one in new), key=lambda one: old[one].mean)
    gaps = {one: _gap(new[one], new[weak], len(new)) for one in new}
    strong = max(new, key=lambda one: new[one].mean)
    return VerifiedSetting(
        setting=name,
        defense=str(fresh[0]["defense"]),
        weak=weak,
        strong=strong,
        searched_auc=old[weak].measured(),
        weak_auc=new[weak].measured(),
        strong_auc=_largest([one.measured(len(new)) for one in new.values()]),
        optimism=_independent(new[weak], old[weak]),
        gap=_largest([gap for one, gap in gaps.items() if one != weak] or [gaps[weak]]),
        searched_accuracy=_accuracy(searched, "test_accuracy"),
        accuracy=_accuracy(fresh, "test_accuracy"),
        robust=_robust(searched, fresh),
    )


@dataclass(frozen=True)
class _Areas:
    """One measure's AUC by seed. of_records: its mean interval of the records, where the targets leave no doubt."""

    by_seed: Mapping[int, float]
    of_records: Interval

    @property
    def values(self) -> list[float]:
        return list(self.by_seed.values())

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    def measured(self, choices: int = 1) -> Measurement:
        """Student t over targets, at a level that holds for so many measures at once; never of zero width."""
        interval = t_interval(self.values, ALPHA / choices)
        if interval is not None and interval.width <= 0:
            interval = widen_auc_interval(self.mean, self.of_records, ALPHA / choices)
        return Measurement(self.mean, interval and interval.clipped(0, 1))


def _areas(rows: Sequence[Row]) -> dict[str, _Areas]:
    """Every measure of members."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["seed"] != POOLED and row["population"] not in SPECIAL:
            found.setdefault(named(row["attack"], row["population"]), []).append(row)
    return {name: _Areas({row["seed"]: row["auc"] for row in own}, _of_records(own)) for name, own in found.items()}


def _of_records(rows: Sequence[Row]) -> Interval:
    return Interval(*(float(np.mean([row[end] for row in rows])) for end in ("auc_low", "auc_high")))


def _accuracy(rows: Sequence[Row], column: str) -> Measurement:
    """Over all targets, as the table has it."""
    row = next(row for row in rows if row["seed"] == POOLED)
    return Measurement(row[column], Interval(row[f"{column}_low"], row[f"{column}_high"]))


def _robust(searched: Sequence[Row], fresh: Sequence[Row]) -> dict[str, tuple[Measurement, Measurement]]:
    return {
        evaluation: (_accuracy(searched, name), _accuracy(fresh, name))
        for evaluation in EVALUATIONS[::-1]
        if all(_has(rows, name := robust_name(evaluation)) for rows in (searched, fresh))
    }


def _has(rows: Sequence[Row], column: str) -> bool:
    return any(row.get(column) is not None for row in rows if row["seed"] == POOLED)


def _gap(ours: _Areas, theirs: _Areas, choices: int) -> Measurement:
    """The difference on the same targets, paired, at a level that holds for so many measures at once."""
    seeds = sorted(ours.by_seed.keys() & theirs.by_seed.keys())
    mine, other = [ours.by_seed[seed] for seed in seeds], [theirs.by_seed[seed] for seed in seeds]
    interval = paired_t_interval(mine, other, ALPHA / choices)
    if interval is not None and interval.width <= 0:
        of_both = (widen_auc_interval(one.mean, one.of_records, ALPHA / choices) for one in (ours, theirs))
        interval = _difference(ours, theirs, *of_both)
    return Measurement(float(np.mean(np.subtract(mine, other))), interval)


def _largest(measured: Sequence[Measurement]) -> Measurement:
    """The largest of several, with an interval of the largest true value (each is at level ALPHA / k)."""
    value = max(one.value for one in measured)
    known = [one.interval for one in measured if one.interval is not None]
    if len(known) < len(measured):
        return Measurement(value, None)
    return Measurement(value, Interval(max(one.low for one in known), max(one.high for one in known)))


def _independent(ours: _Areas, theirs: _Areas) -> Measurement:
    """The difference of two means over different targets, by Welch's t (1947)."""
    difference = ours.mean - theirs.mean
    interval = welch_interval(ours.values, theirs.values)
    if interval is not None and interval.width <= 0:
        interval = _difference(ours, theirs, ours.of_records, theirs.of_records)
    return Measurement(difference, interval)


def _difference(ours: _Areas, theirs: _Areas, of_ours: Interval, of_theirs: Interval) -> Interval:
    return difference_interval(ours.mean, of_ours, theirs.mean, of_theirs)


def _settings(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(str(row["setting"]) for row in rows))


def _of(rows: Iterable[Row], setting: str) -> list[Row]:
    return [row for row in rows if row["setting"] == setting]
