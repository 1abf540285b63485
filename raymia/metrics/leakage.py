"""How much a setting leaks, in one number besides the AUC: what its worst attack finds at a low false positive rate."""

from collections.abc import Mapping

from raymia.errors import InputError
from raymia.metrics.membership import TARGET_FPRS, AttackMetrics
from raymia.metrics.populations import of_members
from raymia.metrics.roc import resolvable


def lowest_resolved_fpr(nonmembers: int) -> float | None:
    """The lowest of TARGET_FPRS that so many non-members resolve, over all targets; None for too few for any."""
    return min((fpr for fpr in TARGET_FPRS if resolvable(nonmembers, fpr)), default=None)


def worst_tpr(pooled: Mapping[str, AttackMetrics], fpr: float) -> float | None:
    """The largest TPR at a target FPR over a setting's measures of members, as pooled over its targets.

    None where one of them does not resolve it: the largest of the others may be too small. Raises InputError for an
    FPR that is not of TARGET_FPRS, and where no attack on members was run.
    """
    if fpr not in TARGET_FPRS:
        raise InputError(f"target FPR {fpr}: it is not measured; give one of {', '.join(map(str, TARGET_FPRS))}")
    names = of_members(pooled)
    if not names:
        raise InputError("attacks: none on the members; run one on the model")
    rates = [point.tpr for name in names for point in pooled[name].tpr if point.target_fpr == fpr]
    known = [rate for rate in rates if rate is not None]
    return max(known) if len(known) == len(names) else None
