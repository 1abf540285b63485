"""The table of robust accuracies: every number with its interval, at every width, and the frontier of three marked."""

import re
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest
from rich.console import Console

from raymia.metrics.table import read_csv
from raymia.metrics.verification import to_verify
from raymia.report.robust_table import robust_table
from raymia.report.robustness import compared, images, measured
from raymia.report.rows import pooled
from raymia.report.table import print_study_end
from tests.report.robust_study import robust_results, robust_rows, without_one

TITLE = "Test accuracy and robust accuracy against the worst attack"
RESULTS = Path(__file__).parents[2] / "results"


def screen(rows, width: int = 120) -> str:
    file = StringIO()
    print_study_end(Console(file=file, width=width), rows)
    return file.getvalue()


def part(rows, width: int = 120) -> str:
    """The table and its caption."""
    return screen(rows, width).split(TITLE)[1].split("\n\n")[0]


def squeezed(text: str) -> str:
    return " ".join(text.split())


def percent(row, name: str, form: str = ".1f") -> str:
    value, low, high = (format(100 * row[name + end], form) for end in ("", "_low", "_high"))
    return f"{value} [{low}, {high}]"


@pytest.mark.parametrize("width", [60, 70, 80, 90, 100, 120, 140])
@pytest.mark.parametrize("methods", [("pgd_at",), ("pgd_at", "trades_awp"), ()])
def test_no_line_is_too_long_and_no_number_is_parted_from_its_interval(width: int, methods) -> None:
    rows = robust_rows(*methods)
    text = part(rows, width)
    assert max(map(len, text.splitlines())) <= width
    for line in text.splitlines():
        assert line.count("[") == line.count("]")
    few = len(pooled(rows, "worst")) <= 10
    for row in pooled(rows, "worst"):
        if few or row["on_robust_frontier"] or row["defense"] == "none":
            assert percent(row, "robust_accuracy_aa") in text
            assert percent(row, "robust_accuracy_pgd20") in text
            assert f"{row['auc']:.3f} [{row['auc_low']:.3f}, {row['auc_high']:.3f}]" in text
            if width >= 80:
                spread = 50 * (row["test_accuracy_high"] - row["test_accuracy_low"])
                assert f"{100 * row['test_accuracy']:.1f} ±{spread:.1f}" in text


@pytest.mark.parametrize("width", [80, 120])
def test_each_setting_has_its_own_numbers_its_star_and_its_chance(width: int) -> None:
    rows = robust_rows("pgd_at", "mart")
    lines = part(rows, width).splitlines()
    stars = set()
    for row in pooled(rows, "worst"):
        (index,) = [
            number for number, line in enumerate(lines) if re.match(rf"[* ] {re.escape(row['setting'])}( |$)", line)
        ]
        stars.add(lines[index][0])
        assert (lines[index][0] == "*") == row["on_robust_frontier"]
        numbers = lines[index] if width == 120 else lines[index + 1]
        assert percent(row, "robust_accuracy_aa") in numbers
        assert numbers.rstrip().endswith(f" {row['p_on_robust_frontier']:.2f}")
    assert stars == {"*", " "}


def test_a_wide_terminal_shows_the_paired_difference_of_the_evaluation_compared() -> None:
    for evaluations, name in ((("pgd20", "aa"), "AutoAttack"), (("pgd20",), "PGD-20")):
        rows = robust_rows("pgd_at", evaluations=evaluations)
        assert f"Δ {name} (paired)" in part(rows, 140)
        for row in pooled(rows, "worst")[1:]:
            assert percent(row, "delta_robust_accuracy", "+.1f") in part(rows, 140)
    assert "Δ" not in part(robust_rows("pgd_at"), 100)


def test_the_caption_says_what_the_star_the_images_and_the_chance_are() -> None:
    text = squeezed(part(robust_rows("pgd_at")))
    assert "* on the frontier of test accuracy, AutoAttack and worst attack AUC; p: how often" in text
    assert "of 3 × 500 a setting" in text
    assert "epsilon" not in text
    alone = squeezed(part(robust_rows("pgd_at", seeds=1, evaluations=("pgd20",))))
    assert "* on the frontier of test accuracy, PGD-20 and worst attack AUC." in alone
    assert "of 500 a setting" in alone
    assert "AutoAttack" not in alone
    # Too narrow for the chances: nothing is said of them.
    assert "p: how often" not in squeezed(part(robust_rows("pgd_at"), 60))


def test_of_many_settings_undefended_and_the_frontier_are_shown() -> None:
    rows = robust_rows()
    text = part(rows)
    assert text.startswith(", undefended and frontier\n")
    for row in pooled(rows, "worst"):
        there = bool(re.search(rf"[* ] {re.escape(row['setting'])}\s", text))
        assert there == (row["on_robust_frontier"] or row["defense"] == "none"), row["setting"]


def test_where_a_setting_lacks_robustness_all_are_shown_without_a_frontier() -> None:
    rows = without_one(robust_results(), 3)
    text = part(rows)
    assert "No frontier of three objectives" in squeezed(text)
    assert "* " not in text
    assert all(row["setting"] in text for row in pooled(rows, "worst"))
    (line,) = [each for each in text.splitlines() if "pgd_at demem.weight=0.2" in each]
    assert line.split()[4:6] == ["-", "-"]


def test_the_evaluation_of_most_settings_is_compared_and_of_equal_ones_the_stronger() -> None:
    rows = robust_rows("pgd_at")
    assert (measured(rows), compared(rows)) == (["pgd20", "aa"], "aa")
    for row in rows:
        if row["setting"] == "none":
            row["robust_accuracy_aa"] = None
    assert compared(rows) == "pgd20"
    assert (measured([]), compared([])) == ([], None)


def test_images_are_counted_by_target() -> None:
    assert images(robust_rows("pgd_at", seeds=2, images=1500)) == "2 × 1,500"
    assert images(robust_rows("pgd_at", seeds=1)) == "500"
    one_less = [row for row in robust_rows("pgd_at") if (row["setting"], row["seed"]) != ("none", 2)]
    assert images(one_less) == "2 × 500 or 3 × 500"


def test_a_terminal_that_knows_ascii_alone_gets_ascii() -> None:
    raw = BytesIO()
    file = TextIOWrapper(raw, encoding="ascii")
    print_study_end(Console(file=file, width=140), robust_rows("pgd_at"))
    file.flush()
    text = raw.getvalue().decode("ascii")
    assert "d AutoAttack (paired)" in text
    assert "3 x 500" in text


def test_a_long_name_stands_above_its_numbers_and_breaks_none() -> None:
    rows = robust_rows("trades_awp")
    for row in rows:
        row["setting"] = row["setting"].replace("demem", "demem with a name that is far too long for any table of mine")
    for width in (80, 140):
        text = part(rows, width)
        assert max(map(len, text.splitlines())) <= width
        for row in pooled(rows, "worst"):
            assert percent(row, "robust_accuracy_aa") in text


def test_without_robustness_there_is_no_table(study) -> None:
    assert robust_table(study("mixup"), 80, many=False) is None
    assert TITLE not in screen(study("mixup"))
    assert TITLE not in screen([row | dict.fromkeys(row_names(), None) for row in study("mixup")])


def row_names() -> list[str]:
    return [name for name in robust_rows("pgd_at")[0] if "robust" in name]


@pytest.mark.parametrize("name", ["cifar10_desk", "digits_defenses", "digits_masked_answers", "digits_paper1"])
def test_tables_from_before_there_was_robustness_are_read_as_ever(name: str) -> None:
    rows = read_csv(RESULTS / name / "frontier.csv")
    text = screen(rows, 100)
    assert "Best trade-off" in text
    assert TITLE not in text
    assert "none" in to_verify(rows)
