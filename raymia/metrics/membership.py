"""What one attack achieves against a setting: AUC, TPR at low FPR, balanced accuracy and PPV, with their intervals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from raymia.errors import InputError
from raymia.metrics.bootstrap import (
    balanced_accuracy_metric,
    best_balanced_accuracy_interval,
    cluster_draws,
    record_draws,
    tpr_interval,
    tpr_metric,
)
from raymia.metrics.delong import auc_interval
from raymia.metrics.intervals import Interval, fixed_balanced_accuracy, resampled_t_interval, t_interval, wilson
from raymia.metrics.roc import (
    ScoreGroups,
    auc_of,
    best_point,
    check_membership,
    decision_point,
    group_scores,
    ppv,
    resolvable,
    tpr_point,
)

TARGET_FPRS = (0.1, 0.01, 0.001)
PRIORS = (0.01, 0.1)
PPV_FPRS = (0.01, 0.1)
DRAWS = 1000

# "records": one target, doubt from its records alone. "seeds": over targets, which retraining is part of.
IntervalKind = Literal["records", "seeds"]


@dataclass(frozen=True)
class TprAtFpr:
    """The TPR at one target FPR; all but the target are None where the non-members are too few to resolve it."""

    target_fpr: float
    realised_fpr: float | None = None
    tpr: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ppv:
    """P(member | called a member) at a prior; None where no false positive was seen, which only bounds it."""

    prior: float
    value: float | None


@dataclass(frozen=True)
class AttackMetrics:
    """One attack's success. All rates are fractions; larger = more leakage.

    balanced_accuracy: at the best threshold on the target, optimistic. balanced_accuracy_shadow: of the guesses at
    the shadow-chosen threshold; None when the attack has none. ppv_fpr: the target FPR at which `ppv` is taken, None
    when none is resolvable. members, nonmembers: scores counted, over all targets. interval_kind: "records" for
    one target; "seeds" for several: Student t over targets, and for TPR, which is of the pooled scores, the cluster
    bootstrap by target. epsilon_lower: the training's ε is at least this (95%), shown by canaries
    (`dp_audit.one_run_epsilon`); None without any.
    """

    auc: float
    auc_low: float
    auc_high: float
    tpr: tuple[TprAtFpr, ...]
    balanced_accuracy: Estimate
    balanced_accuracy_shadow: Estimate | None
    ppv: tuple[Ppv, ...]
    ppv_fpr: float | None
    members: int
    nonmembers: int
    interval_kind: IntervalKind
    epsilon_lower: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives the equal object back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "AttackMetrics":
        shadow = values["balanced_accuracy_shadow"]
        parts = {
            "tpr": tuple(TprAtFpr(**point) for point in values["tpr"]),
            "balanced_accuracy": Estimate(**values["balanced_accuracy"]),
            "balanced_accuracy_shadow": None if shadow is None else Estimate(**shadow),
            "ppv": tuple(Ppv(**point) for point in values["ppv"]),
        }
        return cls(**(values | parts))


def measure_attack(
    scores_N: ArrayLike,
    member_N: ArrayLike,
    rng: np.random.Generator,
    shadow_predictions_N: ArrayLike | None = None,
    draws: int = DRAWS,
) -> AttackMetrics:
    """Measure an attack on one target; the intervals are about its records.

    scores_N: float64[N], larger = more likely a member. member_N: bool[N]. shadow_predictions_N: bool[N], the
    membership guessed at the shadow-chosen (perhaps class-wise) threshold. draws: bootstrap draws.
    Raises InputError for NaN scores and for records of one kind only.
    """
    groups = group_scores(scores_N, member_N)
    fprs = [fpr for fpr in TARGET_FPRS if resolvable(groups.nonmembers, fpr)]
    metrics = [balanced_accuracy_metric, *(tpr_metric(fpr) for fpr in fprs)]
    draws_RK = record_draws(groups, metrics, rng, draws)
    intervals = {
        fpr: tpr_interval(tpr_point(groups, fpr), draws_RK[:, column], groups.members)
        for column, fpr in enumerate(fprs, start=1)
    }
    best = best_point(groups)
    area = auc_interval(groups)
    points = _tpr_points(groups, intervals)
    prior_points, ppv_fpr = _ppv_points(points)
    return AttackMetrics(
        auc=auc_of(groups),
        auc_low=area.low,
        auc_high=area.high,
        tpr=points,
        balanced_accuracy=_estimate(
            best.balanced_accuracy, best_balanced_accuracy_interval(best, draws_RK[:, 0], groups)
        ),
        balanced_accuracy_shadow=_shadow_estimate(shadow_predictions_N, member_N),
        ppv=prior_points,
        ppv_fpr=ppv_fpr,
        members=groups.members,
        nonmembers=groups.nonmembers,
        interval_kind="records",
    )


def pool_targets(
    per_target: Sequence[AttackMetrics],
    scores: Sequence[ArrayLike],
    members: Sequence[ArrayLike],
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> AttackMetrics:
    """One attack over the targets (seeds) of a setting.

    AUC and balanced accuracies: the mean over targets with Student's t. TPRs and PPVs: of the pooled scores, so that
    a pair may join a member of one target with a non-member of another and lower FPRs become resolvable;
    cluster bootstrap by target. A single target keeps its own metrics, and interval_kind "records".
    The mean of balanced accuracies at the targets' own best thresholds keeps their optimism.

    scores, members: each target's float64[N] and bool[N], in the order of per_target.
    """
    if not len(per_target) == len(scores) == len(members) or not per_target:
        raise InputError(f"targets: {len(per_target)} metrics, {len(scores)} scores, {len(members)} memberships differ")
    if len(per_target) == 1:
        return per_target[0]
    points, groups = _pooled_points(scores, members, rng, draws)
    prior_points, ppv_fpr = _ppv_points(points)
    area = _mean_estimate([Estimate(one.auc, one.auc_low, one.auc_high) for one in per_target])
    shadow = [one.balanced_accuracy_shadow for one in per_target]
    known = [one for one in shadow if one is not None]
    return AttackMetrics(
        auc=area.value,
        auc_low=area.low,
        auc_high=area.high,
        tpr=points,
        balanced_accuracy=_mean_estimate([one.balanced_accuracy for one in per_target]),
        balanced_accuracy_shadow=_mean_estimate(known) if len(known) == len(shadow) else None,
        ppv=prior_points,
        ppv_fpr=ppv_fpr,
        members=groups.members,
        nonmembers=groups.nonmembers,
        interval_kind="seeds",
    )


def _pooled_points(
    scores: Sequence[ArrayLike], members: Sequence[ArrayLike], rng: np.random.Generator, draws: int
) -> tuple[tuple[TprAtFpr, ...], ScoreGroups]:
    arrays = [np.asarray(one, dtype=np.float64) for one in scores]
    memberships = [check_membership(one, array.shape) for one, array in zip(members, arrays, strict=True)]
    member_N = np.concatenate(memberships)
    groups = group_scores(np.concatenate(arrays), member_N)
    fprs = [fpr for fpr in TARGET_FPRS if resolvable(groups.nonmembers, fpr)]
    if not fprs:
        return _tpr_points(groups, {}), groups
    target_N = np.repeat(np.arange(len(arrays)), [len(array) for array in arrays])
    draws_RK = cluster_draws(
        groups, target_N[member_N], target_N[~member_N], [tpr_metric(fpr) for fpr in fprs], rng, draws
    )
    intervals = {}
    for column, fpr in enumerate(fprs):
        rate = tpr_point(groups, fpr).tpr
        interval = resampled_t_interval(rate, draws_RK[:, column], len(arrays)).clipped(0, 1)
        intervals[fpr] = interval if interval.width > 0 else wilson(rate, groups.members)
    return _tpr_points(groups, intervals), groups


def _tpr_points(groups: ScoreGroups, intervals: dict[float, Interval]) -> tuple[TprAtFpr, ...]:
    """A point for each target FPR; those without an interval are not resolvable."""
    points = []
    for fpr in TARGET_FPRS:
        empty = TprAtFpr(fpr)
        if fpr not in intervals:
            points.append(empty)
            continue
        point, interval = tpr_point(groups, fpr), intervals[fpr]
        points.append(replace(empty, realised_fpr=point.fpr, tpr=point.tpr, low=interval.low, high=interval.high))
    return tuple(points)


def _ppv_points(points: tuple[TprAtFpr, ...]) -> tuple[tuple[Ppv, ...], float | None]:
    """PPV at the lowest resolvable FPR of PPV_FPRS, and that FPR."""
    by_fpr = {point.target_fpr: point for point in points}
    for fpr in PPV_FPRS:
        point = by_fpr[fpr]
        if point.tpr is not None and point.realised_fpr is not None:
            called = (point.tpr, point.realised_fpr)
            return tuple(Ppv(prior, ppv(*called, prior) if called[1] > 0 else None) for prior in PRIORS), fpr
    return tuple(Ppv(prior, None) for prior in PRIORS), None


def _shadow_estimate(predictions_N: ArrayLike | None, member_N: ArrayLike) -> Estimate | None:
    if predictions_N is None:
        return None
    member = np.asarray(member_N)
    point = decision_point(predictions_N, member)
    nonmembers = int((~member).sum())
    interval = fixed_balanced_accuracy(point.tpr, len(member) - nonmembers, point.fpr, nonmembers)
    return _estimate(point.balanced_accuracy, interval)


def _estimate(value: float, interval: Interval) -> Estimate:
    return Estimate(value, interval.low, interval.high)


def _mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """Mean over at least two targets with Student's t, inside [0, 1].

    Where all values are equal (an attack that separates every target perfectly) t says "no doubt at all": the
    mean of the targets' own intervals stands in.
    """
    values = [one.value for one in estimates]
    interval = t_interval(values)
    if interval is None or interval.width <= 0:
        interval = Interval(*np.mean([[one.low, one.high] for one in estimates], axis=0).tolist())
    return _estimate(float(np.mean(values)), interval.clipped(0, 1))
