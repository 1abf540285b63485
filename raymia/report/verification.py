"""A verification for people: the page, the file of numbers, the table at the end of the command."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from raymia.metrics.verification import Measurement, VerifiedSetting
from raymia.report.grid import grid
from raymia.report.rows import words

_HEADS = (
    "setting",
    "worst attack of the search",
    "its AUC: search",
    "on fresh targets",
    "optimism",
    "strongest attack",
    "its AUC",
    "attack gap",
    "test accuracy (%): search",
    "on fresh targets",
)


def verification_rows(found: Sequence[VerifiedSetting], records: str) -> list[dict[str, object]]:
    """The rows of `verification.csv`, one a setting; `records` says how the records relate to the search's."""
    rows = []
    for one in found:
        row: dict[str, object] = {
            "setting": one.setting,
            "defense": one.defense,
            "weak_attack": one.weak,
            "strong_attack": one.strong,
            "records": records,
        }
        for name in (
            "searched_auc",
            "weak_auc",
            "strong_auc",
            "optimism",
            "gap",
            "searched_accuracy",
            "accuracy",
        ):
            measured: Measurement = getattr(one, name)
            low, high = (measured.interval.low, measured.interval.high) if measured.interval else (None, None)
            row |= {name: measured.value, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return rows


def verification_markdown(found: Sequence[VerifiedSetting], title: str, records: str, targets: int) -> str:
    """The page `verification.md`."""
    lines = [f"# {title[:1].upper()}{title[1:]}", "", _explained(records, targets), ""]
    lines += ["| " + " | ".join(_HEADS) + " |", "| --- | --- " + "| ---: " * 3 + "| --- " + "| ---: " * 4 + "|"]
    lines += ["| " + " | ".join(_cells(one)) + " |" for one in found]
    return "\n".join(lines) + "\n"


def verification_table(found: Sequence[VerifiedSetting], records: str, targets: int) -> RenderableType:
    """The same for a terminal, in fewer columns."""
    table = grid()
    table.add_column("setting", overflow="fold")
    for head in ("AUC in the search", "optimism", "strongest AUC", "attack gap"):
        table.add_column(head, overflow="fold")
    for one in found:
        table.add_row(
            Text(one.setting),
            _auc(one.searched_auc),
            _difference(one.optimism),
            f"{_auc(one.strong_auc)}\n{words(one.strong)}",
            _difference(one.gap),
        )
    return Group(Text("Verification", style="bold"), table, Text(_explained(records, targets), style="dim"))


def _explained(records: str, targets: int) -> str:
    return (
        f"Trained anew on {targets} fresh target{'s' * (targets != 1)} a setting, {records}. Optimism: the AUC of the "
        "search's worst attack on fresh targets, less in the search (above 0: the search flattered). Attack gap: the "
        "strongest other attack's AUC less that one's, on the fresh targets. Intervals: 95%; those of the strongest "
        "attack and of the gap hold for all attacks at once."
    )


def _cells(one: VerifiedSetting) -> list[str]:
    return [
        one.setting,
        words(one.weak),
        _auc(one.searched_auc),
        _auc(one.weak_auc),
        _difference(one.optimism),
        words(one.strong),
        _auc(one.strong_auc),
        _difference(one.gap),
        _percent(one.searched_accuracy),
        _percent(one.accuracy),
    ]


def _auc(measured: Measurement) -> str:
    return _with(measured, ".3f")


def _difference(measured: Measurement) -> str:
    return _with(measured, "+.3f")


def _percent(measured: Measurement) -> str:
    return _with(measured, ".1f", 100)


def _with(measured: Measurement, form: str, scale: float = 1) -> str:
    value = f"{scale * measured.value:{form}}"
    if measured.interval is None:
        return value
    return f"{value} [{scale * measured.interval.low:{form}}, {scale * measured.interval.high:{form}}]"
