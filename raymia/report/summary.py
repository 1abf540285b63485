"""A study in a few sentences: what differs from undefended, the frontier, the setting to look at first."""

from collections.abc import Sequence

from raymia.metrics.comparison import ONE_SEED, RECORDS_ONLY, SAME, kind_of
from raymia.metrics.results import UNDEFENDED, WORST
from raymia.report.rows import ACCURACY_ALLOWANCE, Row, chosen, pooled, undefended


def best_trade_off(rows: Sequence[Row]) -> str | None:
    """The setting to look at first, in one line, by the rule of `rows.chosen`; None before a defense is measured.

    Where undefended is better on both counts, it says so.
    """
    found = pooled(rows, WORST)
    pick = chosen(found)
    if pick is None:
        return None
    text = f"{pick['setting']}: worst attack AUC {pick['auc']:.3f} at {100 * pick['test_accuracy']:.1f}% test accuracy"
    base = undefended(found)
    if base is None:
        return text
    text = f"{text} (undefended: {base['auc']:.3f} at {100 * base['test_accuracy']:.1f}%)"
    beaten = base["auc"] < pick["auc"] and base["test_accuracy"] >= pick["test_accuracy"]
    return f"{text}, which no defense betters" if beaten else text


def summary_lines(rows: Sequence[Row]) -> list[str]:
    """The end of a study as sentences, all about the worst attack."""
    found = pooled(rows, WORST)
    if not found:
        return ["No setting finished: there is nothing to compare."]
    defended = [row for row in found if row["defense"] != UNDEFENDED]
    lines = []
    if undefended(found) is None:
        lines.append("The undefended model is missing: nothing here is compared with it.")
    elif defended and all(row["verdict"] == ONE_SEED for row in defended):
        lines.append("One target a setting: no paired comparison with undefended; plan.targets=3 or more gives it.")
    elif defended:
        same = sum(kind_of(row["verdict"]) == SAME for row in defended)
        note = RECORDS_ONLY if any(row["verdict"].endswith(RECORDS_ONLY) for row in defended) else ""
        lines.append(
            f"{same} of {len(defended)} {'setting is' if len(defended) == 1 else 'settings are'} {SAME}{note}."
        )
        if note:
            lines.append(
                "Records only: one target a setting, so that retraining's doubt is left out; plan.targets=3 has it."
            )
    lines.append(f"On the frontier: {', '.join(row['setting'] for row in found if row['on_frontier'])}.")
    best = best_trade_off(rows)
    if best is not None:
        lines.append(f"Best trade-off: {best}.")
        rule = f"lowest worst-attack AUC within {100 * ACCURACY_ALLOWANCE:g} points of undefended's test accuracy"
        lines.append(f"(Chosen as the {rule}, else the highest accuracy; not verified on fresh seeds.)")
    return lines
