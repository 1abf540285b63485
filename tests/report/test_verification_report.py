"""The page, the file and the table of a verification."""

from typing import Any

from rich.console import Console

from raymia.metrics.verification import verified_settings
from raymia.report.verification import verification_markdown, verification_rows, verification_table

Row = dict[str, Any]


def rows_of(setting: str, auc: float, accuracy: float, **robust: float) -> list[Row]:
    """Three targets and the pooled row; intervals of accuracies are .05 wide."""
    found: Row = {"setting": setting, "defense": setting.split()[0], "population": "all"}
    for name, value in {"test_accuracy": accuracy, **{f"robust_accuracy_{k}": v for k, v in robust.items()}}.items():
        found |= {name: value, f"{name}_low": value - 0.02, f"{name}_high": value + 0.03}
    area = {"auc": auc, "auc_low": auc - 0.02, "auc_high": auc + 0.02}
    each = [{**found, **area, "attack": "loss", "seed": seed, "auc": auc + 0.01 * seed} for seed in range(3)]
    return [*each, {**found, **area, "attack": "worst", "seed": "pooled"}]


SEARCHED = [*rows_of("none", 0.7, 0.9, pgd20=0.2, aa=0.1), *rows_of("trades", 0.6, 0.8, pgd20=0.6, aa=0.5)]
# The fresh targets were asked for PGD-20 alone, and one setting for nothing.
FRESH = [*rows_of("none", 0.72, 0.91, pgd20=0.24), *rows_of("trades", 0.66, 0.79)]


def test_robust_accuracy_stands_in_the_file_where_both_studies_measured_it() -> None:
    none, trades = verification_rows(verified_settings(SEARCHED, FRESH), "redrawn")
    assert list(none) == list(trades)
    assert none["searched_robust_accuracy_pgd20"] == 0.2
    assert none["robust_accuracy_pgd20"] == 0.24
    assert none["robust_accuracy_pgd20_high"] == 0.24 + 0.03
    assert trades["robust_accuracy_pgd20"] is None
    assert trades["searched_robust_accuracy_pgd20"] is None
    assert not [name for name in none if "aa" in name.split("_")]


def test_page_and_table_show_robust_accuracy_of_the_search_and_of_the_fresh_targets() -> None:
    found = verified_settings(SEARCHED, FRESH)
    page = verification_markdown(found, "verification of demem", "redrawn", 3)
    heads, ruler, none, trades = [line for line in page.splitlines() if line.startswith("|")]
    assert heads.count("|") == ruler.count("|") == none.count("|") == trades.count("|") == 13
    assert heads.endswith("| PGD-20 accuracy (%): search | on fresh targets |")
    assert none.endswith("| 20.0 [18.0, 23.0] | 24.0 [22.0, 27.0] |")
    assert trades.endswith("| – | – |")
    console = Console(width=140, record=True)
    console.print(verification_table(found, "redrawn", 3))
    shown = console.export_text()
    for text in ("PGD-20 accuracy (%)", "24.0 [22.0, 27.0]", "was 20.0 [18.0, 23.0]"):
        assert text in shown


def test_without_robust_accuracy_there_is_no_column_for_it() -> None:
    plain = verified_settings(rows_of("none", 0.7, 0.9), rows_of("none", 0.72, 0.91))
    assert "PGD" not in verification_markdown(plain, "verification", "redrawn", 3)
    assert not [name for name in verification_rows(plain, "redrawn")[0] if "robust" in name]
