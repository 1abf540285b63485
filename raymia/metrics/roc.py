"""The tie-safe ROC of a membership score and the numbers read from it.

A record is called a member when `score >= threshold`. Records with equal scores are always called alike, so no order
inside a tie can raise the true positive rate at a low false positive rate.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymia.errors import InputError

Scores = NDArray[np.float64]
Membership = NDArray[np.bool_]
Counts = NDArray[np.int64]

MIN_FALSE_POSITIVES = 10


@dataclass(frozen=True)
class ScoreGroups:
    """Records grouped by equal score. U distinct scores, M members, N non-members.

    scores_U: the distinct scores, descending. members_U, nonmembers_U: int64, how many of each kind have that score.
    member_groups_M, nonmember_groups_N: int64, the index into scores_U of each member and of each non-member, in
    the records' order.
    """

    scores_U: Scores
    members_U: Counts
    nonmembers_U: Counts
    member_groups_M: Counts
    nonmember_groups_N: Counts

    @property
    def members(self) -> int:
        return len(self.member_groups_M)

    @property
    def nonmembers(self) -> int:
        return len(self.nonmember_groups_N)


@dataclass(frozen=True)
class Roc:
    """The ROC's corners, from "nobody is a member" (0, 0) to "everybody is" (1, 1).

    fpr, tpr, thresholds: float64[U + 1], U distinct scores. thresholds[0] is NaN, the one value that no score
    reaches even when some scores are +inf.
    """

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    thresholds: NDArray[np.float64]


@dataclass(frozen=True)
class OperatingPoint:
    """One decision rule: true and realised false positive rate of `score >= threshold` (NaN: nobody is called)."""

    tpr: float
    fpr: float
    threshold: float

    @property
    def balanced_accuracy(self) -> float:
        return (self.tpr + 1 - self.fpr) / 2


def group_scores(scores_N: ArrayLike, member_N: ArrayLike) -> ScoreGroups:
    """Group the records of one audit by equal score.

    scores_N: float64[N], +-inf allowed. member_N: bool[N].
    Raises InputError for NaN, shapes that differ, and when members or non-members are missing.
    """
    scores = np.asarray(scores_N, dtype=np.float64)
    member = check_membership(member_N, scores.shape)
    if np.isnan(scores).any():
        raise InputError(f"scores: {int(np.isnan(scores).sum())} of {len(scores)} are NaN; use -inf for 'surely out'")
    ascending, place = np.unique(scores, return_inverse=True)
    group_N = len(ascending) - 1 - place.astype(np.int64)
    of_members, of_nonmembers = group_N[member], group_N[~member]
    return ScoreGroups(
        scores_U=ascending[::-1].copy(),
        members_U=np.bincount(of_members, minlength=len(ascending)),
        nonmembers_U=np.bincount(of_nonmembers, minlength=len(ascending)),
        member_groups_M=of_members,
        nonmember_groups_N=of_nonmembers,
    )


def check_membership(member_N: ArrayLike, shape: tuple[int, ...]) -> Membership:
    """`member_N` as bool[N], for records of this shape; refused unless it holds members and non-members."""
    member = np.asarray(member_N)
    if member.dtype != np.bool_:
        raise InputError(f"member: dtype {member.dtype}; give booleans, True for a member")
    if len(shape) != 1 or member.shape != shape:
        raise InputError(f"scores {shape} and member {member.shape}: give one-dimensional arrays of equal length")
    if member.all() or not member.any():
        raise InputError(f"member: {int(member.sum())} of {len(member)} are members; a metric needs both kinds")
    return member


def roc_curve(scores_N: ArrayLike, member_N: ArrayLike) -> Roc:
    """The ROC with equal scores grouped; shapes and errors as in `group_scores`."""
    groups = group_scores(scores_N, member_N)
    true_positives, false_positives = _corners(groups)
    return Roc(
        fpr=false_positives / groups.nonmembers,
        tpr=true_positives / groups.members,
        thresholds=np.concatenate([[np.nan], groups.scores_U]),
    )


def auc(scores_N: ArrayLike, member_N: ArrayLike) -> float:
    """P(member's score > non-member's) + P(equal) / 2, counted over all pairs."""
    return auc_of(group_scores(scores_N, member_N))


def auc_of(groups: ScoreGroups) -> float:
    """The same, of grouped scores. Exact: the pairs are counted in integers."""
    members_above = np.cumsum(groups.members_U) - groups.members_U
    twice = int(np.sum(groups.nonmembers_U * (2 * members_above + groups.members_U)))
    return twice / (2 * groups.members * groups.nonmembers)


def tpr_at_fpr(scores_N: ArrayLike, member_N: ArrayLike, target: float) -> OperatingPoint:
    """The largest TPR whose realised FPR is at most `target` (a fraction): a corner of the ROC, no interpolation.

    Of equal TPRs the one with the fewest false positives. Shapes and errors as in `group_scores`.
    """
    return tpr_point(group_scores(scores_N, member_N), target)


def tpr_point(groups: ScoreGroups, target: float) -> OperatingPoint:
    """The same, of grouped scores."""
    if not 0 <= target <= 1:
        raise InputError(f"target FPR {target}: give a fraction from 0 to 1")
    true_positives, false_positives = _corners(groups)
    allowed = allowed_false_positives(np.array([groups.nonmembers]), target)[0]
    reachable = true_positives[false_positives <= allowed]
    return _point(groups, int(np.argmax(reachable)))


def allowed_false_positives(nonmembers_R: Counts, target: float) -> Counts:
    """For each number of non-members n, the largest integer k with k / n <= target, free of rounding in target * n."""
    allowed = np.floor(target * nonmembers_R).astype(np.int64) + 1
    for _ in range(2):
        allowed = allowed - (allowed / nonmembers_R > target)
    return allowed


def balanced_accuracy(scores_N: ArrayLike, member_N: ArrayLike) -> float:
    """(TPR + TNR) / 2 at the threshold that is best on these very records: optimistic, at least 0.5."""
    return best_point(group_scores(scores_N, member_N)).balanced_accuracy


def best_point(groups: ScoreGroups) -> OperatingPoint:
    """The point of the largest balanced accuracy; of equal ones the highest threshold."""
    true_positives, false_positives = _corners(groups)
    gain = true_positives * groups.nonmembers - false_positives * groups.members
    return _point(groups, int(np.argmax(gain)))


def balanced_accuracy_at(scores_N: ArrayLike, member_N: ArrayLike, threshold: float) -> float:
    """(TPR + TNR) / 2 of `score >= threshold`, a threshold chosen elsewhere (on shadow models)."""
    scores = np.asarray(scores_N, dtype=np.float64)
    group_scores(scores, member_N)
    return decision_point(scores >= threshold, member_N).balanced_accuracy


def decision_point(predictions_N: ArrayLike, member_N: ArrayLike) -> OperatingPoint:
    """TPR and FPR of membership guesses bool[N], however they were made (threshold: NaN, none is known)."""
    predictions = np.asarray(predictions_N)
    if predictions.dtype != np.bool_:
        raise InputError(f"predictions: dtype {predictions.dtype}; give booleans, True for 'member'")
    member = check_membership(member_N, predictions.shape)
    return OperatingPoint(float(predictions[member].mean()), float(predictions[~member].mean()), float("nan"))


def ppv(tpr: float, fpr: float, prior: float) -> float | None:
    """P(member | called a member) when a fraction `prior` of the records are members; None if nobody is called."""
    if not 0 < prior < 1:
        raise InputError(f"prior {prior}: give a fraction between 0 and 1")
    called = prior * tpr + (1 - prior) * fpr
    return prior * tpr / called if called > 0 else None


def resolvable(nonmembers: int, fpr: float) -> bool:
    """Whether so many non-members can show this FPR: at least 10 of them must be allowed above the threshold."""
    return nonmembers >= MIN_FALSE_POSITIVES / fpr * (1 - 1e-12)


def _corners(groups: ScoreGroups) -> tuple[Counts, Counts]:
    """True and false positives int64[U + 1] after 0, 1, ... U of the distinct scores, from the top."""
    zero = np.zeros(1, dtype=np.int64)
    return (
        np.concatenate([zero, np.cumsum(groups.members_U)]),
        np.concatenate([zero, np.cumsum(groups.nonmembers_U)]),
    )


def _point(groups: ScoreGroups, corner: int) -> OperatingPoint:
    return OperatingPoint(
        tpr=int(groups.members_U[:corner].sum()) / groups.members,
        fpr=int(groups.nonmembers_U[:corner].sum()) / groups.nonmembers,
        threshold=float(groups.scores_U[corner - 1]) if corner else float("nan"),
    )
