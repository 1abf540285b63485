"""The last screen: verdicts in full, numbers with their intervals, no line too long."""

import re
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest
from rich.console import Console

from raymia.metrics.comparison import LESS, ONE_SEED, SAME
from raymia.metrics.table import read_csv
from raymia.report.rows import pooled
from raymia.report.summary import best_trade_off, summary_lines
from raymia.report.table import print_study_end

RESULTS = Path(__file__).resolve().parents[2] / "results"


def screen(rows, width: int = 100, failures=(), remarks=(), **console) -> str:
    file = StringIO()
    print_study_end(Console(file=file, width=width, **console), rows, failures, remarks)
    return file.getvalue()


def squeezed(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("names", [("mixup",), ("label_smoothing",), ()])
def test_no_line_is_too_long_and_no_number_is_parted_from_its_interval(study, width: int, names) -> None:
    rows = study(*names)
    text = screen(rows, width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("[") == text.count("]")
    for line in text.splitlines():
        assert line.count("[") == line.count("]")
    for row in pooled(rows, "worst"):
        assert f"{row['auc']:.3f} [{row['auc_low']:.3f}, {row['auc_high']:.3f}]" in text
        assert (
            f"{100 * row['test_accuracy']:.1f} ±{50 * (row['test_accuracy_high'] - row['test_accuracy_low']):.1f}"
            in text
        )


@pytest.mark.parametrize("width", [80, 100])
def test_few_settings_show_both_paired_differences_and_the_verdict_beside_them(study, width: int) -> None:
    rows = study("mixup")
    text = screen(rows, width)
    for row in pooled(rows, "worst")[1:]:
        for name, scale, form in (("delta_auc", 1, "+.3f"), ("delta_test_accuracy", 100, "+.1f")):
            value, low, high = (format(scale * row[name + end], form) for end in ("", "_low", "_high"))
            assert f"Δ {value} [{low}, {high}]" in text
        if width == 100 or row["on_frontier"]:
            assert f"{row['p_on_frontier']:.2f}" in text
    assert "* mixup" in text
    assert len(text.split("AUC of each attack")[0].splitlines()) <= 24


def test_at_100_columns_each_verdict_stands_in_full_on_its_settings_line(study) -> None:
    rows = study("mixup")
    table = screen(rows, 100).split("AUC of each attack")[0]
    assert table.count(SAME) == sum(row["verdict"] == SAME for row in pooled(rows, "worst")) > 0
    assert table.count(LESS) == sum(row["verdict"] == LESS for row in pooled(rows, "worst")) > 0


def test_many_settings_stand_under_their_verdict(study) -> None:
    rows = study()
    table = screen(rows, 100).split("AUC of each attack")[0]
    for verdict in (LESS, SAME):
        own = [row["setting"] for row in pooled(rows, "worst") if row["verdict"] == verdict]
        section = table.split(f"{verdict} ({len(own)})\n")[1].split(" undefended (")[0].splitlines()
        found = [re.sub(r"^\W*", "", line).rsplit("  ", 1)[0] for line in section]
        assert all(any(line.startswith(name) for line in found) for name in own)
    assert len(table.splitlines()) <= 40


@pytest.mark.parametrize(
    ("width", "columns"), [(120, "Δ acc. (paired)"), (100, "Δ AUC (paired)"), (80, "worst attack AUC")]
)
def test_the_width_decides_the_columns_of_many_settings_and_the_caption_explains_those_shown(
    study, width: int, columns: str
) -> None:
    table = screen(study(), width).split("AUC of each attack")[0]
    head = table.splitlines()[1]
    assert columns in head
    assert ("p: how often" in squeezed(table)) == (width > 80) == head.rstrip().endswith(" p")


def test_each_attack_has_its_auc_and_the_largest_is_marked(study) -> None:
    rows = study("mixup")
    (line,) = [each for each in screen(rows).splitlines() if re.match(r"mixup alpha=0.3 .*!", each)]
    aucs = [pooled(rows, attack)[3]["auc"] for attack in ("loss", "entropy", "modified_entropy", "nn")]
    assert [float(value) for value in re.findall(r"0\.\d{3}", line)] == pytest.approx(aucs, abs=6e-4)
    assert f"{max(aucs):.3f}!" in line
    assert line.count("!") == 1


def test_plain_text_where_there_is_no_terminal_and_color_where_there_is(study) -> None:
    rows = study("mixup")
    assert "\x1b" not in screen(rows)
    colored = screen(rows, force_terminal=True, color_system="standard")
    assert "\x1b[" in colored
    assert "[/" not in re.sub(r"\x1b\[[\d;]*m", "", colored)


def test_a_terminal_that_knows_ascii_alone_gets_ascii(study) -> None:
    raw = BytesIO()
    file = TextIOWrapper(raw, encoding="ascii")
    print_study_end(Console(file=file, width=100), study("mixup"))
    file.flush()
    assert "d -0.0" in raw.getvalue().decode("ascii")


def test_no_letter_ends_a_study_on_such_a_terminal(study) -> None:
    raw = BytesIO()
    file = TextIOWrapper(raw, encoding="ascii")
    rows = [row | {"epsilon": 8.0, "delta": 1e-3} for row in study("mixup")]
    remarks = ["Robust accuracy: against ℓ∞ ε 0.03.", "Data of señor 雪."]
    print_study_end(Console(file=file, width=100), rows, remarks=remarks)
    file.flush()
    text = raw.getvalue().decode("ascii")
    for phrase in ("eps at most", "(delta 0.001)", "against Linf eps 0.03.", "Data of se?or ?."):
        assert phrase in text


def test_failed_settings_are_listed_with_their_reason_taken_literally(study) -> None:
    reason = "the loss is not finite at epoch 3 [bold]"
    text = screen(study("mixup"), failures=[("relaxloss alpha=5", reason)])
    assert "Failed settings (1)" in text
    assert re.search(rf"relaxloss alpha=5\s+{re.escape(reason)}", text)
    assert "Failed settings" not in screen(study("mixup"))


def test_a_study_in_which_nothing_finished_says_so() -> None:
    text = screen([], failures=[("none", "out of memory")])
    assert "No setting finished" in text
    assert "out of memory" in text


def test_one_seed_shows_no_interval_it_does_not_have(study) -> None:
    rows = study("mixup")
    for row in rows:
        for name in ("auc", "test_accuracy", "delta_auc", "delta_test_accuracy"):
            row[f"{name}_low"] = row[f"{name}_high"] = None
        row["p_on_frontier"] = None
        if row["verdict"] == SAME or row["verdict"] == LESS:
            row["verdict"] = "one seed: no paired interval"
    table = screen(rows, 100).split("AUC of each attack")[0]
    assert "[" not in table
    assert "±" not in table
    assert table.count("one seed: no paired interval") == 5


def test_a_pick_that_undefended_betters_is_not_praised(study) -> None:
    rows = study("mixup")
    for row in pooled(rows, "worst"):
        if row["defense"] != "none":
            row["auc"], row["test_accuracy"] = 0.9, 0.75
    base = next(row for row in pooled(rows, "worst") if row["defense"] == "none")
    base["auc"], base["test_accuracy"] = 0.8, 0.76
    best = best_trade_off(rows)
    assert best is not None
    assert best.endswith("(undefended: 0.800 at 76.0%), which no defense betters")
    base["test_accuracy"] = 0.74  # then accuracy is bought
    best = best_trade_off(rows)
    assert best is not None
    assert best.endswith("(undefended: 0.800 at 74.0%)")


def test_the_summary_counts_and_names(study) -> None:
    rows = study("mixup")
    lines = squeezed(" ".join(summary_lines(rows)))
    assert f"4 of 5 settings are {SAME}." in lines
    assert "On the frontier: mixup alpha=0.5." in lines
    assert "not verified on fresh seeds" in lines
    best = best_trade_off(rows)
    assert best is not None
    assert best.startswith("mixup alpha=0.5: worst attack AUC 0.834 at 73.9% test accuracy (undefended: 0.861")
    assert best_trade_off([row for row in rows if row["defense"] == "none"]) is None
    without = summary_lines([row for row in rows if row["defense"] != "none"])
    assert without[0].startswith("The undefended model is missing")


def test_one_target_a_setting_is_said_instead_of_counted(study) -> None:
    rows = [dict(row, verdict=ONE_SEED) if row["defense"] != "none" else row for row in study("mixup")]
    lines = summary_lines(rows)
    assert not any("not distinguishable" in line for line in lines)
    assert any(line.startswith("One target a setting: no paired comparison") for line in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_many_attacks_stand_in_several_tables_each_with_every_setting(study, width: int) -> None:
    attacks = ("loss", "entropy", "lira_online", "calibrated_loss_offline", "quantile_regression", "gradient_norm",
               "label_only_augmentation", "nn_top3_posteriors", "modified_entropy_per_class", "rmia")  # fmt: skip
    rows = study("mixup", attacks=attacks)
    text = screen(rows, width)
    assert max(map(len, text.splitlines())) <= width
    table = squeezed(text[text.index("AUC of each attack") :])
    for attack in attacks:
        for word in attack.split("_"):
            assert word in table
        for row in pooled(rows, attack):
            assert f"{row['auc']:.3f}" in table
    assert table.count("!") == 1 + len(pooled(rows, "worst"))  # in the title, and one a setting
    assert squeezed(screen(rows, width, remarks=["Not run: lira_online/direct."])).endswith("lira_online/direct.")


def test_the_least_width_breaks_no_number(study) -> None:
    for row in pooled(study("mixup"), "loss"):
        assert f"{row['auc']:.3f}" in screen(study("mixup"), 60)


@pytest.mark.parametrize("width", [70, 80, 100, 140])
def test_long_names_are_folded_and_no_number_is_lost(width: int) -> None:
    """A study of composed defenses, whose names alone fill a terminal."""
    rows = read_csv(RESULTS / "digits_robust" / "frontier.csv")
    text = screen(rows, width)
    worst = [row for row in rows if row["attack"] == "worst"]
    assert max(len(str(row["setting"])) for row in worst) > 65
    assert max(map(len, text.splitlines())) <= width
    for row in worst:
        assert f"{row['auc']:.3f} [{row['auc_low']:.3f}, {row['auc_high']:.3f}]" in text
