"""Whom an attack catches over several targets, and how that varies when the targets are drawn anew.

Row 0 of every array over draws R is what was measured, each target counted once; the other rows are a bootstrap of
whole targets, which chooses the threshold anew in each. Arrays of several settings that share `times_RT` are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymia.metrics.bootstrap import CHUNK_CELLS
from raymia.metrics.intervals import Interval, resampled_t_interval
from raymia.metrics.roc import Counts, allowed_false_positives, check_membership

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TargetAnswers:
    """One target under one setting: N of its records. scores: float64[N], an attack's, larger = more likely a member.

    member: bool[N]. right: bool[N], whether the target's largest logit is at the label. memorization: float64[N], of
    the record, the same under every setting.
    """

    scores: Floats
    member: NDArray[np.bool_]
    right: NDArray[np.bool_]
    memorization: Floats


@dataclass(frozen=True)
class Draws:
    """R draws of one setting over B bins; NaN where a draw has no record to count.

    tpr_RB: the share of the bin's members that are caught. train_RB, test_RB: accuracy on its members and non-members.
    slope_R: of being caught (0 or 1) by the memorization score, over members, by least squares. caught_R: the mean
    memorization score of the caught members.
    """

    tpr_RB: Floats
    train_RB: Floats
    test_RB: Floats
    slope_R: Floats
    caught_R: Floats


def target_draws(targets: int, draws: int, rng: np.random.Generator) -> Counts:
    """How often each target is taken, int64[1 + draws, targets]: once each in the first row."""
    redrawn = rng.multinomial(targets, np.full(targets, 1 / targets), size=draws)
    return np.concatenate([np.ones((1, targets), dtype=np.int64), redrawn])


def draw_setting(
    targets: Sequence[TargetAnswers], bins: Sequence[Counts], count: int, fpr: float, times_RT: Counts
) -> Draws:
    """The draws of one setting.

    bins: of each target's records, int64[N] below `count`. fpr: the largest realised false positive rate of the
    threshold, over all non-members of the drawn targets. Raises InputError for a target without members or without
    non-members.
    """
    member_TB, unseen_TB, right_TB, right_unseen_TB = (
        np.stack([np.bincount(own[chosen], minlength=count) for own, chosen in zip(bins, some, strict=True)])
        for some in _kinds(targets)
    )
    cuts_R = _cuts(targets, fpr, times_RT)
    found = [_caught(one, own, count, cuts_R) for one, own in zip(targets, bins, strict=True)]
    caught_RB = np.sum([times[:, None] * hits for times, (hits, _) in zip(times_RT.T, found, strict=True)], axis=0)
    scores_R = np.sum([times * total for times, (_, total) in zip(times_RT.T, found, strict=True)], axis=0)
    return Draws(
        tpr_RB=_ratio(caught_RB, times_RT @ member_TB),
        train_RB=_ratio(times_RT @ right_TB, times_RT @ member_TB),
        test_RB=_ratio(times_RT @ right_unseen_TB, times_RT @ unseen_TB),
        slope_R=_slope(targets, times_RT, caught_RB.sum(axis=1), scores_R),
        caught_R=_ratio(scores_R, caught_RB.sum(axis=1)),
    )


def spread(values_R: Floats, targets: int) -> Interval | None:
    """The interval of what was measured, values_R[0], by `intervals.resampled_t_interval`.

    None for fewer than two targets, and where nothing was measured. Draws that hold nothing to count are left out. Zero
    width where all draws agree: who knows a lower limit of the doubt has to apply it.
    """
    known_R = values_R[1:][~np.isnan(values_R[1:])]
    if targets < 2 or np.isnan(values_R[0]) or not len(known_R):
        return None
    return resampled_t_interval(float(values_R[0]), known_R, targets)


def _kinds(targets: Sequence[TargetAnswers]) -> list[list[NDArray[np.bool_]]]:
    """Of each target: members, non-members, members it is right on, non-members it is right on."""
    members = [check_membership(one.member, one.scores.shape) for one in targets]
    right = [one.right for one in targets]
    return [
        members,
        [~member for member in members],
        [member & own for member, own in zip(members, right, strict=True)],
        [~member & own for member, own in zip(members, right, strict=True)],
    ]


def _cuts(targets: Sequence[TargetAnswers], fpr: float, times_RT: Counts) -> Floats:
    """What a score must be above to be called a member's in each draw: the highest non-member's score that would make
    the false positives too many. Equal scores are called alike (`roc.tpr_at_fpr`).
    """
    unseen = [one.scores[~one.member] for one in targets]
    scores = np.concatenate(unseen)
    order = np.argsort(-scores, kind="stable")
    target_of = np.repeat(np.arange(len(unseen)), [len(one) for one in unseen])[order]
    rows = max(1, CHUNK_CELLS // len(scores))
    firsts = []
    for start in range(0, len(times_RT), rows):
        counted = np.cumsum(times_RT[start : start + rows, target_of], axis=1)
        allowed = allowed_false_positives(counted[:, -1], fpr)
        firsts.append((counted <= allowed[:, None]).sum(axis=1))
    return scores[order][np.concatenate(firsts)]


def _caught(one: TargetAnswers, bins_N: Counts, count: int, cuts_R: Floats) -> tuple[Counts, Floats]:
    """One target's members above each cut: how many of each bin, int64[R, B], and their memorization's sum float64[R].

    They are counted for the few cuts that differ.
    """
    cuts, place_R = np.unique(cuts_R, return_inverse=True)
    order = np.argsort(one.scores[one.member], kind="stable")
    scores = one.scores[one.member][order]
    first = np.searchsorted(scores, cuts, side="right")
    in_bin = bins_N[one.member][order][:, None] == np.arange(count)
    from_end = np.zeros((len(scores) + 1, count), dtype=np.int64)
    from_end[:-1] = np.cumsum(in_bin[::-1], axis=0)[::-1]
    total = np.zeros(len(scores) + 1)
    total[:-1] = np.cumsum(one.memorization[one.member][order][::-1])[::-1]
    return from_end[first][place_R], total[first][place_R]


def _slope(targets: Sequence[TargetAnswers], times_RT: Counts, caught_R: Counts, scores_R: Floats) -> Floats:
    of_members = [one.memorization[one.member] for one in targets]
    records_R, sum_R, squares_R = (
        times_RT @ np.array([float(np.sum(values**power)) for values in of_members]) for power in (0, 1, 2)
    )
    mean_R = sum_R / records_R
    variance_R = squares_R / records_R - mean_R**2
    covariance_R = scores_R / records_R - mean_R * caught_R / records_R
    return _ratio(covariance_R, np.where(variance_R > 1e-12, variance_R, 0))


def _ratio(above: NDArray[np.generic], below: NDArray[np.generic]) -> Floats:
    """NaN where there is nothing below."""
    found = np.full(np.shape(above), np.nan)
    np.divide(above, below, out=found, where=below != 0)
    return found
