"""Leakage and accuracy by memorization: whether a defense takes more from the records that are learned by heart.

The form of Luo & Li 2025 (DeMem, arXiv 2412.05767): the TPR at one threshold for all records, bin by bin. The scores
come from models that neither the target nor the attacker has, so that no bin chooses its records by the attack's own
noise. They are noisy themselves, which blurs the bins and flattens trends over them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot

import numpy as np
from numpy.typing import NDArray

from raymia.errors import InputError
from raymia.metrics.bootstrap import record_draws, tpr_interval, tpr_metric
from raymia.metrics.caught import Draws, TargetAnswers, draw_setting, spread, target_draws
from raymia.metrics.comparison import IS_UNDEFENDED, NO_REFERENCE
from raymia.metrics.delong import auc_interval
from raymia.metrics.intervals import Interval, t_interval, wilson
from raymia.metrics.membership import DRAWS
from raymia.metrics.memorization import bins_of, upper_edges
from raymia.metrics.results import UNDEFENDED
from raymia.metrics.roc import Counts, auc_of, group_scores, tpr_point

LEAST_OF_A_KIND = 5
"""A bin's AUC is taken over the targets that have so many members and so many non-members in it."""

HIGHER = "takes more where memorization is high"
LOWER = "takes more where memorization is low"
UNRESOLVED = "not resolved"

Row = dict[str, object]

_Measured = tuple[float | None, Interval | None]
_NOTHING: _Measured = (None, None)


@dataclass(frozen=True)
class SettingAnswers:
    """A setting's targets under one attack; every setting of a study has the same targets with the same records."""

    setting: str
    defense: str
    hyperparameters: Mapping[str, object]
    attack: str
    targets: tuple[TargetAnswers, ...]


def memorization_rows(settings: Sequence[SettingAnswers], bins: int, fpr: float, rng: np.random.Generator) -> list[Row]:
    """A row for each setting and bin, in their order; None where there is nothing to say. Deterministic by `rng`.

    tpr: of the bin's members, at the setting's one threshold whose realised false positive rate over all non-members of
    all targets is at most `fpr`. auc: of the bin's members against its non-members, the mean over the targets with
    `LEAST_OF_A_KIND` of both. train_accuracy, test_accuracy: on the bin's members and non-members. delta_…: less that
    of undefended. Intervals (95%) are over targets (interval_kind `seeds`): Student t for the AUC, else the cluster
    bootstrap by target, whose threshold is chosen anew in each draw and which is paired for differences; none where
    fewer than two targets have the records. With one target they are over its records, and differences have none.
    Simulated coverage with 2 to 8 targets of 150 members: 93-100%, of the AUC 90-97%.

    delta_tpr_slope: by how much delta_tpr grows from memorization 0 to 1, by least squares over members; below 0 the
    defense takes more where memorization is high. delta_caught_memorization: the mean score of the members caught, less
    that of the members caught undefended; below 0 the defense takes more there even in proportion to what leaks there.
    verdict: on delta_tpr_slope. The three are the same in all rows of a setting.

    Raises InputError where the settings' targets differ, or lack members or non-members.
    """
    places = [bins_of(one.memorization, bins) for one in _same_targets(settings)]
    count = len(places)
    times_RT = target_draws(count, DRAWS if count > 1 else 0, rng)
    draws = {one.setting: draw_setting(one.targets, places, bins, fpr, times_RT) for one in settings}
    base = next((draws[one.setting] for one in settings if one.defense == UNDEFENDED), None)
    rows: list[Row] = []
    for one in settings:
        against = None if one.defense == UNDEFENDED else base
        shared = _trend_cells(one, draws[one.setting], against, count)
        for number in range(bins):
            bin_ = _Bin(number, tuple(place == number for place in places))
            rows.append(_row(one, bin_, fpr, bins, draws[one.setting], against, rng) | shared)
    names = list(dict.fromkeys(name for one in settings for name in one.hyperparameters))
    return [_ordered(row, names) for row in rows]


@dataclass(frozen=True)
class _Bin:
    """Its number, and bool[N] for each target: the records in it."""

    number: int
    inside: tuple[NDArray[np.bool_], ...]

    def count(self, targets: Sequence[TargetAnswers], member: bool) -> Counts:
        """Members or non-members of each target, int64[T]."""
        pairs = zip(targets, self.inside, strict=True)
        return np.array([int((inside & (one.member == member)).sum()) for one, inside in pairs])


def _same_targets(settings: Sequence[SettingAnswers]) -> tuple[TargetAnswers, ...]:
    if not settings or not settings[0].targets:
        raise InputError("memorization: nothing was scored; give a study that is complete")
    first = settings[0].targets
    for one in settings:
        if len(one.targets) != len(first) or any(
            not np.array_equal(own.member, other.member) or not np.array_equal(own.memorization, other.memorization)
            for own, other in zip(one.targets, first, strict=False)
        ):
            raise InputError(f"memorization: {one.setting} has other targets than {settings[0].setting}; run it again")
    return first


def _row(
    one: SettingAnswers,
    bin_: _Bin,
    fpr: float,
    bins: int,
    draws: Draws,
    against: Draws | None,
    rng: np.random.Generator,
) -> Row:
    members, unseen = bin_.count(one.targets, True), bin_.count(one.targets, False)
    number, edges = bin_.number, upper_edges(bins)
    single = len(one.targets) == 1
    tpr = _of_records(one.targets[0], bin_, fpr, rng) if single else _rate(draws.tpr_RB[:, number], members)
    row: Row = {
        "setting": one.setting,
        "defense": one.defense,
        **one.hyperparameters,
        "attack": one.attack,
        "targets": len(one.targets),
        "bin": number,
        "above": None if number == 0 else float(edges[number - 1]),
        "up_to": float(edges[number]),
        "members": int(members.sum()),
        "nonmembers": int(unseen.sum()),
        "interval_kind": "records" if single else "seeds",
        "fpr": fpr,
        **_cells("tpr", tpr),
        **_cells("auc", _auc(one.targets, bin_)),
        **_cells("train_accuracy", _rate(draws.train_RB[:, number], members)),
        **_cells("test_accuracy", _rate(draws.test_RB[:, number], unseen)),
        **_cells("delta_tpr", _NOTHING),
        **_cells("delta_test_accuracy", _NOTHING),
    }
    if against is not None:
        row |= _cells("delta_tpr", _difference(draws.tpr_RB[:, number], against.tpr_RB[:, number], members))
        row |= _cells("delta_test_accuracy", _difference(draws.test_RB[:, number], against.test_RB[:, number], unseen))
    return row


def _of_records(one: TargetAnswers, bin_: _Bin, fpr: float, rng: np.random.Generator) -> _Measured:
    """One target's TPR in a bin, with the interval of its records."""
    kept = ~one.member | bin_.inside[0]
    if not one.member[kept].any():
        return _NOTHING
    groups = group_scores(one.scores[kept], one.member[kept])
    point = tpr_point(groups, fpr)
    drawn = record_draws(groups, [tpr_metric(fpr)], rng, DRAWS)[:, 0]
    return point.tpr, tpr_interval(point, drawn, groups.members)


def _rate(values_R: NDArray[np.float64], records_T: Counts) -> _Measured:
    """A share of records. Where all draws agree, and for one target, Wilson's interval of the records."""
    if np.isnan(values_R[0]):
        return _NOTHING
    value = float(values_R[0])
    if len(records_T) > 1 and np.count_nonzero(records_T) < 2:
        return value, None
    interval = spread(values_R, len(records_T))
    if interval is None or interval.width <= 0:
        interval = wilson(value, int(records_T.sum()))
    return value, interval.clipped(0, 1)


def _difference(ours_R: NDArray[np.float64], theirs_R: NDArray[np.float64], records_T: Counts) -> _Measured:
    """Ours less theirs. Where all draws agree, Wilson's two intervals by Newcombe's method 10 (1998)."""
    if np.isnan(ours_R[0] - theirs_R[0]):
        return _NOTHING
    value = float(ours_R[0] - theirs_R[0])
    if np.count_nonzero(records_T) < 2:
        return value, None
    interval = spread(ours_R - theirs_R, len(records_T))
    if interval is not None and interval.width <= 0:
        mine, other = (wilson(float(one_R[0]), int(records_T.sum())) for one_R in (ours_R, theirs_R))
        below = hypot(ours_R[0] - mine.low, other.high - theirs_R[0])
        interval = Interval(value - below, value + hypot(mine.high - ours_R[0], theirs_R[0] - other.low))
    return value, interval and interval.clipped(-1, 1)


def _auc(targets: Sequence[TargetAnswers], bin_: _Bin) -> _Measured:
    enough = (bin_.count(targets, True) >= LEAST_OF_A_KIND) & (bin_.count(targets, False) >= LEAST_OF_A_KIND)
    if enough.sum() < min(len(targets), 2):
        return _NOTHING
    groups = [
        group_scores(one.scores[inside], one.member[inside])
        for one, inside, counted in zip(targets, bin_.inside, enough, strict=True)
        if counted
    ]
    areas = [auc_of(one) for one in groups]
    interval = t_interval(areas)
    if interval is None or interval.width <= 0:
        # One target, or equal areas: t would say "no doubt at all".
        own = [auc_interval(one) for one in groups]
        interval = Interval(float(np.mean([one.low for one in own])), float(np.mean([one.high for one in own])))
    return float(np.mean(areas)), interval.clipped(0, 1)


def _trend_cells(one: SettingAnswers, draws: Draws, against: Draws | None, targets: int) -> Row:
    slope = caught = _NOTHING
    verdict = IS_UNDEFENDED if one.defense == UNDEFENDED else NO_REFERENCE
    if against is not None:
        slope = _change(draws.slope_R - against.slope_R, targets)
        caught = _change(draws.caught_R - against.caught_R, targets)
        verdict = _verdict(slope[1])
    return _cells("delta_tpr_slope", slope) | _cells("delta_caught_memorization", caught) | {"verdict": verdict}


def _change(values_R: NDArray[np.float64], targets: int) -> _Measured:
    """A paired difference. No interval where all draws agree: nobody's answer changed, which leaves its doubt open."""
    if np.isnan(values_R[0]):
        return _NOTHING
    interval = spread(values_R, targets)
    return float(values_R[0]), interval if interval is not None and interval.width > 0 else None


def _verdict(slope: Interval | None) -> str:
    if slope is None or 0 in slope:
        return UNRESOLVED
    return HIGHER if slope.high < 0 else LOWER


def _cells(name: str, measured: _Measured) -> Row:
    value, interval = measured
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _ordered(row: Row, hyperparameters: Sequence[str]) -> Row:
    """The hyperparameters of all settings after the first two columns, as in the study's table."""
    first = {"setting": row["setting"], "defense": row["defense"]}
    return first | {name: row.get(name) for name in hyperparameters} | row
