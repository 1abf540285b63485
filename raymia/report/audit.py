"""An audit on a terminal: the attacks with their intervals, what was not run and why, what a reader must know."""

import re
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from raymia.metrics.intervals import Interval
from raymia.metrics.membership import AttackMetrics, TprAtFpr
from raymia.metrics.summary import NOT_RESOLVABLE
from raymia.report.grid import grid

_ONE_LINE = 124
_NARROW_NAME = 17
_BALANCED = "balanced\nacc. (%)"


def audit_table(metrics: Mapping[str, AttackMetrics], width: int) -> RenderableType:
    """A row an attack, the largest AUC first, each number with its interval; of two or three lines in less than 124
    columns. metrics: by attack, at least one.
    """
    between = " " if width >= _ONE_LINE else "\n"
    ordered = sorted(metrics.items(), key=lambda item: -item[1].auc)
    first = ordered[0][1]
    table = grid()
    heads = ["attack", "AUC", *(f"TPR (%) at\nFPR {_percent(point.target_fpr)}" for point in first.tpr), _BALANCED]
    for head in heads:
        table.add_column(head, overflow="fold", no_wrap=head == "attack")
    for name, one in ordered:
        shadow = one.balanced_accuracy_shadow
        accuracies = [one.balanced_accuracy] if shadow is None else [one.balanced_accuracy, shadow]
        table.add_row(
            Text(name if between == " " else _folded(name)),
            f"{one.auc:.3f}{between}[{one.auc_low:.3f}, {one.auc_high:.3f}]",
            *(_rate(point, between) for point in one.tpr),
            f",{between}".join(f"{100 * accuracy.value:.1f}" for accuracy in accuracies),
        )
    return Group(Text(f"{first.members:,} members, {first.nonmembers:,} non-members", style="bold"), table)


def audit_lines(
    strongest: str, auc: float, interval: Interval, attacks: int, left_out: Mapping[str, str], notes: Sequence[str]
) -> Iterator[str]:
    """What stands under the table. interval: of the largest AUC, for all attacks at once."""
    yield (
        "Intervals: 95%, about the records of this one model. Balanced accuracy: at the threshold that is best on "
        "these records, optimistic; after the comma at the one chosen on the attacker's own models."
    )
    yield (
        f"Largest AUC: {auc:.3f} by {strongest}; [{interval.low:.3f}, {interval.high:.3f}] holds for "
        f"{'all ' + str(attacks) + ' attacks at once' if attacks > 1 else 'it alone'}."
    )
    yield from (f"Note: {note}." for note in notes)
    for reason in dict.fromkeys(left_out.values()):
        names = [name for name, one in left_out.items() if one == reason]
        yield f"Not run: {', '.join(names)}: {reason}."


def _percent(rate: float) -> str:
    return f"{100 * rate:g}%"


def _rate(point: TprAtFpr, between: str) -> str:
    if point.tpr is None or point.low is None or point.high is None:
        return NOT_RESOLVABLE.replace(" ", between)
    return f"{100 * point.tpr:.1f}{between}[{100 * point.low:.1f}, {100 * point.high:.1f}]"


def _folded(name: str) -> str:
    """Broken after underscores, so that a name can still be read and copied."""
    lines = [""]
    for part in re.findall(r"[^_]*_?", name):
        if len(lines[-1]) + len(part) > _NARROW_NAME:
            lines.append("")
        lines[-1] += part
    return "\n".join(line for line in lines if line)
