"""The generalization-gap tables, against numbers worked out by hand."""

from typing import Any

import pytest

from raymia.report.gap import generalization_gap_markdown


def setting_rows(
    setting: str, accuracies: list[tuple[float, float]], worst_auc: float, alpha: float | None = None
) -> list[dict[str, Any]]:
    common = {"setting": setting, "defense": setting.split(maxsplit=1)[0], "mixup.alpha": alpha}
    rows = [
        common
        | {"seed": seed, "attack": attack, "train_accuracy": train, "test_accuracy": test, "auc": 0.5}
        | {"generalization_gap": train - test}
        for seed, (train, test) in enumerate(accuracies)
        for attack in ("loss", "nn")
    ]
    pooled = {"train_accuracy": 0.0, "test_accuracy": sum(test for _, test in accuracies) / len(accuracies)}
    ends = {"auc_low": worst_auc - 0.01, "auc_high": worst_auc + 0.01}
    return [*rows, common | pooled | ends | {"seed": "pooled", "attack": "worst", "auc": worst_auc}]


def line(text: str, label: str) -> list[str]:
    found = next(each for each in text.splitlines() if each.startswith(f"| {label} |"))
    return [cell.strip() for cell in found.strip("|").split("|")][1:]


UNDEFENDED = setting_rows("none", [(1.0, 0.70), (1.0, 0.72)], 0.9)


def test_mean_and_half_width_by_hand() -> None:
    # Mean 71, SD sqrt(2), two seeds: the half-width is t(0.975, 1 degree) * SD / sqrt(2) = 12.7062.
    text = generalization_gap_markdown(UNDEFENDED, "Gap")
    assert text.startswith("# Gap\n")
    assert line(text, "train accuracy") == ["100.00 ± 0.00"]
    assert line(text, "test accuracy") == ["71.00 ± 12.71"]
    assert line(text, "generalization gap") == ["29.00 ± 12.71"]
    assert "95% Student t interval over 2 target seeds" in text


def test_one_seed_has_no_half_width_and_says_so() -> None:
    text = generalization_gap_markdown(setting_rows("none", [(0.99, 0.5)], 0.9), "Gap")
    assert line(text, "generalization gap") == ["49.00"]
    assert "One target seed a setting: no interval." in text


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        # 69.0 is within two points of 71.0: the lower AUC wins.
        (0.69, "alpha=0.5"),
        # 68.9 is not.
        (0.689, "alpha=0.1"),
    ],
)
def test_the_chosen_setting_has_the_lowest_auc_within_two_points(accuracy: float, expected: str) -> None:
    rows = UNDEFENDED + setting_rows("mixup alpha=0.1", [(1.0, 0.72)] * 2, 0.8, 0.1)
    rows += setting_rows("mixup alpha=0.5", [(1.0, accuracy)] * 2, 0.6, 0.5)
    text = generalization_gap_markdown(rows, "Gap")
    assert line(text, "setting") == ["–", expected]
    assert "within 2 points of undefended" in text


def test_where_none_is_within_two_points_the_most_accurate_is_chosen() -> None:
    rows = UNDEFENDED + setting_rows("mixup alpha=0.1", [(1.0, 0.60)] * 2, 0.8, 0.1)
    rows += setting_rows("mixup alpha=0.5", [(1.0, 0.55)] * 2, 0.6, 0.5)
    assert line(generalization_gap_markdown(rows, "Gap"), "setting") == ["–", "alpha=0.1"]


def test_all_settings_are_listed_below(study) -> None:
    text = generalization_gap_markdown(study(), "Gap")
    full = text.split("## All settings")[1]
    assert full.count("\n| ") == 2 + 29
    assert line(text, "%") == ["none", "mixup", "label_smoothing", "early_stopping", "relaxloss", "dropout"]
    assert sum(cells.endswith("| yes |") for cells in full.splitlines()) == 6
    widths = {len(each.split("|")) for each in full.splitlines() if each.startswith("|")}
    assert widths == {8}
