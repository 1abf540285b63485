"""The generalization-gap tables, against numbers worked out by hand."""

from typing import Any

import pytest

from raymia.report.gap import generalization_gap_markdown
from raymia.report.rows import pooled

SETTINGS = [f"diffusion_mixup real={real}" for real in (0, 150, 300, 1200, 3000)]


def setting_rows(
    setting: str, accuracies: list[tuple[float, float]], worst_auc: float, alpha: float | None = None
) -> list[dict[str, Any]]:
    common = {"setting": setting, "defense": setting.split(maxsplit=1)[0], "mixup.alpha": alpha, "population": "all"}
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


def test_populations_follow_with_their_members_and_intervals(study) -> None:
    rows = study("mixup", "diffusion_mixup")
    text = generalization_gap_markdown(rows, "Gap")
    section = text.split("## AUC by population of the members")[1].split("## AUC of attacks on the generator")[0]
    table = [[cell.strip() for cell in each.strip("|").split("|")] for each in section.splitlines() if each[:1] == "|"]
    assert table[0] == ["setting", "population", "members", "loss", "entropy", "modified entropy", "nn"]
    # Undefended for reference, then every setting with populations apart: the first has no direct members, the last
    # no others.
    times = (2, 3, 3, 3, 0)
    assert [line[0] for line in table[2:]] == [
        *("none", *(name for name, count in zip(SETTINGS, times, strict=True) for _ in range(count)))
    ]
    assert [line[1:3] for line in table[2:8]] == [
        ["all", "5 × 3,000"],
        ["all", "5 × 3,000"],
        ["indirect", "5 × 3,000"],
        ["all", "5 × 3,000"],
        ["direct", "5 × 150"],
        ["indirect", "5 × 2,850"],
    ]
    for setting, population, _, *aucs in table[2:]:
        for attack, auc in zip(("loss", "entropy", "modified_entropy", "nn"), aucs, strict=True):
            (row,) = [each for each in pooled(rows, attack, population) if each["setting"] == setting]
            assert auc == f"{row['auc']:.3f} [{row['auc_low']:.3f}, {row['auc_high']:.3f}]"
    generator = text.split("## AUC of attacks on the generator")[1]
    assert "| setting | population | members | denoising loss | nearest copy |" in generator
    assert "| diffusion_mixup real=150 | generator | 5 × 3,000 | 0.900 [0.886, 0.914] | 0.550" in generator
    assert [name in generator for name in SETTINGS] == [True] * 5
    assert "mixup alpha=0.1" not in section + generator


def test_without_populations_nothing_is_said_of_them(study) -> None:
    text = generalization_gap_markdown(study("mixup"), "Gap")
    assert "population" not in text
    assert "generator" not in text
