"""A verification for people: the page, the file of numbers, the table at the end of the command."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from raymia.metrics.places import EVALUATIONS
from raymia.metrics.summary import robust_name
from raymia.metrics.verification import Measurement, VerifiedSetting
from raymia.report.grid import grid
from raymia.report.robustness import WORDS
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

_MEASURED = ("searched_auc", "weak_auc", "strong_auc", "optimism", "gap", "searched_accuracy", "accuracy")


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
        for name in _MEASURED:
            row |= _columns(name, getattr(one, name))
        for evaluation in _evaluations(found):
            name = robust_name(evaluation)
            searched, fresh = one.robust.get(evaluation, (None, None))
            row |= _columns(f"searched_{name}", searched) | _columns(name, fresh)
        rows.append(row)
    return rows


def _columns(name: str, measured: Measurement | None) -> dict[str, object]:
    interval = measured.interval if measured else None
    low, high = (interval.low, interval.high) if interval else (None, None)
    return {name: measured.value if measured else None, f"{name}_low": low, f"{name}_high": high}


def _evaluations(found: Sequence[VerifiedSetting]) -> list[str]:
    """Of robust accuracy: those that some setting has, the weaker one first."""
    return [name for name in EVALUATIONS[::-1] if any(name in one.robust for one in found)]


def verification_markdown(found: Sequence[VerifiedSetting], title: str, records: str, targets: int) -> str:
    """The page `verification.md`."""
    evaluations = _evaluations(found)
    heads = list(_HEADS)
    for evaluation in evaluations:
        heads += [f"{WORDS[evaluation]} accuracy (%): search", "on fresh targets"]
    lines = [f"# {title[:1].upper()}{title[1:]}", "", _explained(records, targets), ""]
    numbers = "| ---: " * (4 + 2 * len(evaluations))
    lines += ["| " + " | ".join(heads) + " |", "| --- | --- " + "| ---: " * 3 + "| --- " + numbers + "|"]
    lines += ["| " + " | ".join(_cells(one, evaluations)) + " |" for one in found]
    return "\n".join(lines) + "\n"


def verification_table(found: Sequence[VerifiedSetting], records: str, targets: int) -> RenderableType:
    """The same for a terminal, in fewer columns."""
    table = grid()
    table.add_column("setting", overflow="fold")
    evaluations = _evaluations(found)
    robust = [f"{WORDS[name]} accuracy (%)" for name in evaluations]
    for head in ("AUC in the search", "optimism", "strongest AUC", "attack gap", *robust):
        table.add_column(head, overflow="fold")
    for one in found:
        table.add_row(
            Text(one.setting),
            _auc(one.searched_auc),
            _difference(one.optimism),
            f"{_auc(one.strong_auc)}\n{words(one.strong)}",
            _difference(one.gap),
            *("\nwas ".join(_robust(one, name)[::-1]) for name in evaluations),
        )
    return Group(Text("Verification", style="bold"), table, Text(_explained(records, targets), style="dim"))


def _explained(records: str, targets: int) -> str:
    return (
        f"Trained anew on {targets} fresh target{'s' * (targets != 1)} a setting, {records}. Optimism: the AUC of the "
        "search's worst attack on fresh targets, less in the search (above 0: the search flattered). Attack gap: the "
        "strongest other attack's AUC less that one's, on the fresh targets. Intervals: 95%; those of the strongest "
        "attack and of the gap hold for all attacks at once."
    )


def _cells(one: VerifiedSetting, evaluations: Sequence[str]) -> list[str]:
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
        *(cell for name in evaluations for cell in _robust(one, name)),
    ]


def _robust(one: VerifiedSetting, evaluation: str) -> list[str]:
    """In the search, and on the fresh targets."""
    return [_percent(each) for each in one.robust[evaluation]] if evaluation in one.robust else ["–", "–"]


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
