"""A setting against the undefended model: paired differences and verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raymia.errors import InputError
from raymia.metrics.delong import paired_auc_difference, widen_auc_interval
from raymia.metrics.frontier import WorstAttack, worst_attack
from raymia.metrics.intervals import ALPHA, Interval, difference_interval, paired_t_interval
from raymia.metrics.membership import AttackMetrics
from raymia.metrics.populations import counterpart, of_members
from raymia.metrics.results import WORST, SettingResult
from raymia.metrics.robustness import RobustAccuracy
from raymia.metrics.utility import Utility

LESS = "less leakage than undefended"
MORE = "more leakage than undefended"
SAME = "not distinguishable from undefended"
ONE_SEED = "one seed: no paired interval"
NO_COMMON_SEED = "no seed in common with undefended"
NO_REFERENCE = "no undefended setting"
NOT_RUN = "attack not run on undefended"
IS_UNDEFENDED = "undefended"

# Follows LESS, MORE or SAME where the interval knows the doubt from the records, but not the one from retraining.
RECORDS_ONLY = " (records only)"


@dataclass(frozen=True)
class Delta:
    """The mean paired difference to undefended over the common seeds; None without one.

    interval: over the seeds; over the records where there is one seed and the difference was paired on them, else None.
    """

    value: float | None = None
    interval: Interval | None = None
    seeds: int = 0


@dataclass(frozen=True)
class Scored:
    """A measure's records on one target: positions int64[N], each once, scores float64[N], member bool[N]."""

    positions: NDArray[np.int64]
    scores: NDArray[np.float64]
    member: NDArray[np.bool_]


def kind_of(verdict: str) -> str:
    """The verdict without what its interval is over."""
    return verdict.removesuffix(RECORDS_ONLY)


def paired_delta(ours: dict[int, float], theirs: dict[int, float], alpha: float = ALPHA) -> Delta:
    """Ours - theirs, by seed, with the paired Student t interval over the seeds that both have."""
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        return Delta()
    mine, other = [ours[seed] for seed in common], [theirs[seed] for seed in common]
    value = float(np.mean(np.subtract(mine, other)))
    return Delta(value, paired_t_interval(mine, other, alpha), len(common))


def utility_delta(result: SettingResult, undefended: SettingResult) -> Delta:
    """The difference of test accuracy to undefended, by seed."""
    delta = paired_delta(result.test_accuracies(), undefended.test_accuracies())
    return _with_doubt(delta, *(_accuracy(one.utility) for one in (result, undefended)))


def robust_delta(result: SettingResult, undefended: SettingResult, evaluation: str) -> Delta:
    """The difference of robust accuracy to undefended, by seed."""
    delta = paired_delta(result.robust_accuracies(evaluation), undefended.robust_accuracies(evaluation))
    if delta.value is None:
        return delta
    return _with_doubt(delta, *(_robust(one.robustness[evaluation]) for one in (result, undefended)))


def auc_delta(result: SettingResult, undefended: SettingResult | None, name: str) -> tuple[Delta, str]:
    """The difference of a measure's AUC to undefended, and the verdict in words.

    name: a measure of members, or `worst`. Undefended trained on all its members, so a population apart is held
    against all of them (`populations.counterpart`). For `worst` each setting's own worst measure enters, and the
    interval is at level alpha / k (Bonferroni over the k measures that either could have been picked from). With a
    single common seed the difference is that of `SettingResult.paired`, if it is there.
    """
    if result.undefended:
        return Delta(), IS_UNDEFENDED
    if undefended is None:
        return Delta(), NO_REFERENCE
    ours, theirs, alpha = _opponents(result, undefended, name)
    if theirs is None:
        return Delta(), NOT_RUN
    delta = paired_delta(result.aucs(ours), undefended.aucs(theirs), alpha)
    if delta.seeds == 1 and name in result.paired:
        delta = Delta(*result.paired[name], seeds=1)
    if name == WORST:
        known = [_worst(result), _worst(undefended)]
    else:
        known = [_area(result.pooled[ours]), _area(undefended.pooled[theirs])]
    delta = _with_doubt(delta, *known)
    return delta, _verdict(delta)


def paired_on_records(
    result: SettingResult, undefended: SettingResult, ours: Mapping[str, Scored], theirs: Mapping[str, Scored]
) -> dict[str, tuple[float, Interval]]:
    """Differences of AUC to undefended on the records that both scored, with DeLong's paired interval.

    ours, theirs: by measure name, on the same target number, for all measures of members. The answer is meant for
    `SettingResult.paired` of a study with one target, `worst` included. A population apart is held against
    undefended's scores of the same records. Raises InputError where a record is a member of one model only.
    """
    found = {}
    for name in [*of_members(result.pooled), WORST]:
        mine, other, alpha = _opponents(result, undefended, name)
        if other is not None:
            found[name] = _paired(ours[mine], theirs[other], alpha)
    return found


def worst_of(result: SettingResult) -> WorstAttack:
    """The setting's worst attack over all attacks and populations of members, none on a generator.

    With one seed (or equal AUCs) its interval is that of the records, widened to hold for all measures at once.
    """
    names = of_members(result.pooled)
    level = ALPHA / len(names)
    pooled = {name: result.pooled[name] for name in names}
    fallback = {
        name: widen_auc_interval(one.auc, Interval(one.auc_low, one.auc_high), level) for name, one in pooled.items()
    }
    return worst_attack({name: list(result.aucs(name).values()) for name in names}, ALPHA, fallback)


_Known = tuple[float, Interval]
"""A value and its interval."""


def _with_doubt(delta: Delta, ours: _Known, theirs: _Known) -> Delta:
    """Where every seed has the same difference (as two models that withstand nothing) Student t says "no doubt at all":
    the settings' own intervals, combined, stand in.
    """
    if delta.value is None or delta.interval is None or delta.interval.width > 0:
        return delta
    return replace(delta, interval=difference_interval(*ours, *theirs).clipped(-1, 1))


def _accuracy(utility: Utility) -> _Known:
    return utility.test_accuracy, Interval(utility.test_accuracy_low, utility.test_accuracy_high)


def _robust(found: RobustAccuracy) -> _Known:
    return found.accuracy, Interval(found.low, found.high)


def _area(found: AttackMetrics) -> _Known:
    return found.auc, Interval(found.auc_low, found.auc_high)


def _worst(result: SettingResult) -> _Known:
    worst = worst_of(result)
    assert worst.interval is not None  # it has one of the records to fall back on
    return worst.auc, worst.interval


def _opponents(result: SettingResult, undefended: SettingResult, name: str) -> tuple[str, str | None, float]:
    """The two measures that are compared under this name (None: undefended has none), and the interval's level."""
    if name != WORST:
        return name, counterpart(name, undefended.pooled), ALPHA
    if not undefended.pooled:
        return name, None, ALPHA
    choices = of_members(result.pooled.keys() | undefended.pooled.keys())
    return worst_of(result).attack, worst_of(undefended).attack, ALPHA / len(choices)


def _paired(ours: Scored, theirs: Scored, alpha: float) -> tuple[float, Interval]:
    _, mine, other = np.intersect1d(ours.positions, theirs.positions, assume_unique=True, return_indices=True)
    member_N = ours.member[mine]
    if (member_N != theirs.member[other]).any():
        raise InputError("paired scores: a record is a member of one model only; give both the same target's plan")
    return paired_auc_difference(ours.scores[mine], theirs.scores[other], member_N, alpha)


def _verdict(delta: Delta) -> str:
    if delta.seeds == 0:
        return NO_COMMON_SEED
    if delta.interval is None:
        return ONE_SEED
    note = RECORDS_ONLY if delta.seeds == 1 else ""
    if delta.interval.high < 0:
        return LESS + note
    return (MORE if delta.interval.low > 0 else SAME) + note
