"""An attack's metrics as plain numbers under the names of `audit.json`, which conditions are written in."""

from collections.abc import Mapping

from raymia.metrics.membership import PRIORS, TARGET_FPRS, AttackMetrics, Estimate
from raymia.metrics.summary import NOT_RESOLVABLE

Number = float | str | None
"""A number; "not resolvable" where the records are too few for it; None where the attack has none."""


def numbers_of(metrics: AttackMetrics) -> dict[str, Number]:
    """All numbers of an attack, in the order they are written."""
    found: dict[str, Number] = {"auc": metrics.auc, "auc_low": metrics.auc_low, "auc_high": metrics.auc_high}
    for point in metrics.tpr:
        name = f"tpr_at_fpr_{point.target_fpr:g}"
        values = {name: point.tpr, f"{name}_low": point.low, f"{name}_high": point.high}
        values[f"{name}_realised"] = point.realised_fpr
        found |= {key: NOT_RESOLVABLE if point.tpr is None else value for key, value in values.items()}
    found |= _ends("balanced_accuracy", metrics.balanced_accuracy)
    found |= _ends("balanced_accuracy_shadow", metrics.balanced_accuracy_shadow)
    # Where no false positive was seen, or none could be, the share of members among the called is only bounded.
    for one in metrics.ppv:
        found[f"ppv_prior_{one.prior:g}"] = NOT_RESOLVABLE if one.value is None else one.value
    return found


def _ends(name: str, estimate: Estimate | None) -> Mapping[str, Number]:
    if estimate is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


NAMES: tuple[str, ...] = (
    *("auc", "auc_low", "auc_high"),
    *(f"tpr_at_fpr_{fpr:g}{end}" for fpr in TARGET_FPRS for end in ("", "_low", "_high", "_realised")),
    *(f"balanced_accuracy{kind}{end}" for kind in ("", "_shadow") for end in ("", "_low", "_high")),
    *(f"ppv_prior_{prior:g}" for prior in PRIORS),
)
