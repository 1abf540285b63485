"""Numbers as the tables write them: a value with its interval, never one without the other where both are known."""

from collections.abc import Sequence

from raymia.metrics.summary import robust_name
from raymia.report.rows import Row


def accuracy(row: Row) -> str:
    """`72.4 ± 0.8`, in percent; the half-width is left out where it is not known."""
    low, high = row["test_accuracy_low"], row["test_accuracy_high"]
    spread = "" if low is None or high is None else f" ±{50 * (high - low):.1f}"
    return f"{100 * row['test_accuracy']:.1f}{spread}"


def auc(row: Row) -> str:
    """`0.612 [0.580, 0.644]`."""
    return _with_interval(row, "auc", 1, ".3f")


def auc_spread(row: Row) -> str:
    """`0.612 ±0.032`, shorter than `auc`: half the interval's width, left out where it is not known."""
    low, high = row["auc_low"], row["auc_high"]
    return f"{row['auc']:.3f}" if low is None or high is None else f"{row['auc']:.3f} ±{(high - low) / 2:.3f}"


def delta_accuracy(row: Row) -> str:
    """`+0.5 [-0.3, +1.3]`, in percentage points."""
    return _with_interval(row, "delta_test_accuracy", 100, "+.1f")


def delta_auc(row: Row) -> str:
    """`-0.031 [-0.052, -0.010]`."""
    return _with_interval(row, "delta_auc", 1, "+.3f")


def robust_accuracy(row: Row, evaluation: str) -> str:
    """`45.2 [40.9, 49.6]`, in percent: near 0, where many models stand, half a width would say too little."""
    return _with_interval(row, robust_name(evaluation), 100, ".1f")


def delta_robust_accuracy(row: Row) -> str:
    """`+0.5 [-0.3, +1.3]`, in percentage points."""
    return _with_interval(row, "delta_robust_accuracy", 100, "+.1f")


def chance(row: Row, frontier: str = "on_frontier") -> str:
    """The share of seed resamples in which the setting is on the frontier."""
    value = row[f"p_{frontier}"]
    return "-" if value is None else f"{value:.2f}"


def times(counts: Sequence[int]) -> str:
    """The records of each target: `5 × 300` for five with 300 each, their sum where they differ, `300` for one."""
    if len(set(counts)) > 1:
        return f"{sum(counts):,}"
    return f"{counts[0]:,}" if len(counts) == 1 else f"{len(counts)} × {counts[0]:,}"


def _with_interval(row: Row, name: str, scale: float, form: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "-"
    if low is None or high is None:
        return f"{scale * value:{form}}"
    return f"{scale * value:{form}} [{scale * low:{form}}, {scale * high:{form}}]"
