"""The tables by population: every population with its members, aligned, and never a generator among the members."""

import re
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from rich.console import Console

from raymia.metrics.comparison import RECORDS_ONLY, SAME
from raymia.report.figure import frontier_figure
from raymia.report.gap import generalization_gap_markdown
from raymia.report.populations import lines, settings_shown
from raymia.report.rows import pooled
from raymia.report.style import svg_bytes
from raymia.report.summary import summary_lines
from raymia.report.table import print_study_end
from tests.metrics.made_results import setting, table

MANY = ("mixup", "label_smoothing", "relaxloss", "diffusion_mixup")
TITLE = "AUC by population of the members"
GENERATORS = "AUC of attacks on the generator"


def screen(rows, width: int = 80) -> str:
    file = StringIO()
    print_study_end(Console(file=file, width=width), rows)
    return file.getvalue()


def block(text: str, title: str = TITLE) -> list[str]:
    """The lines below a title, up to the next empty one."""
    return text.split(title)[1].split("\n\n")[0].splitlines()[1:]


def test_each_population_has_a_line_with_its_members_and_its_aucs(study) -> None:
    rows = study("mixup", "diffusion_mixup")
    found = block(screen(rows))
    start = found.index("diffusion_mixup real=300")
    assert [each.split()[:4] for each in found[start + 1 : start + 4]] == [
        ["all", "5", "×", "3,000"],
        ["direct", "5", "×", "300"],
        ["indirect", "5", "×", "2,700"],
    ]
    for line, population in zip(found[start + 1 : start + 4], ("all", "direct", "indirect"), strict=True):
        expected = [
            row
            for attack in ("loss", "entropy", "modified_entropy", "nn")
            for row in pooled(rows, attack, population)
            if row["setting"] == "diffusion_mixup real=300"
        ]
        assert re.findall(r"\d\.\d{3} ±\d\.\d{3}", line) == [
            f"{row['auc']:.3f} ±{(row['auc_high'] - row['auc_low']) / 2:.3f}" for row in expected
        ]
    # The largest of the setting, over attacks and populations alike.
    assert [each.count("!") for each in found[start + 1 : start + 4]] == [0, 1, 0]
    assert "±0.014!" in found[start + 2].split("0.7")[1]
    assert found[found.index("none") + 1].split()[0] == "all"
    assert not any(each.startswith("mixup") for each in found)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("names", [("diffusion_mixup",), MANY])
def test_no_line_is_too_long_and_the_columns_stand_below_each_other(study, width: int, names) -> None:
    text = screen(study(*names), width)
    for title in (TITLE, GENERATORS):
        assert max(map(len, block(text, title))) <= width
    data = [each for each in block(text) if re.match(r"  (all|direct|indirect) ", each)]
    assert len({tuple(match.start() for match in re.finditer(r"\d\.\d{3}(?= |!)", each)) for each in data}) == 1
    assert all(("±" in each) == (width >= 80) for each in data)


def test_of_many_settings_those_on_the_frontier_are_shown_or_the_best_one(study) -> None:
    rows = study(*MANY)
    worst = [row for row in pooled(rows, "worst") if row["defense"] == "diffusion_mixup"]
    for row in rows:
        if row["attack"] == "worst" and row["defense"] == "diffusion_mixup":
            row["on_frontier"] = row["setting"].endswith(("=300", "=1200"))
    text = screen(rows)
    assert [each for each in block(text) if each.startswith("diffusion")] == [
        *(worst[2]["setting"], worst[3]["setting"])
    ]
    assert ", frontier" in text.split(TITLE)[1].splitlines()[0]
    assert not any("real=150" in each for each in block(text, GENERATORS))
    for row in rows:
        row["on_frontier"] = False if row["attack"] == "worst" else row["on_frontier"]
    text = screen(rows)
    floor = pooled(rows, "worst")[0]["test_accuracy"] - 0.02
    best = min((row for row in worst[:4] if row["test_accuracy"] >= floor), key=lambda row: row["auc"])
    assert [each for each in block(text) if each.startswith("diffusion")] == [best["setting"]]
    assert ", best trade-off" in text.split(TITLE)[1].splitlines()[0]
    # All members of the last setting are direct: it has but its generator apart.
    assert settings_shown(rows, ("direct", "indirect"), many=False) == worst[:4]
    assert settings_shown(rows, ("generator",), many=False) == worst


def test_attacks_on_generators_have_their_intervals_and_stand_in_no_other_table(study) -> None:
    text = screen(study("diffusion_mixup"), 100)
    found = block(text, GENERATORS)
    assert re.fullmatch(r"setting +members denoising loss +nearest copy *", found[0])
    assert len([each for each in found if "0.900 [0.886, 0.914]" in each and "0.550 [0.536, 0.564]" in each]) == 5
    assert "denoising" not in text.split(GENERATORS)[0]
    assert "0.900" not in text.split(GENERATORS)[0]


def test_the_other_tables_say_whom_they_are_about(study) -> None:
    text = " ".join(screen(study("mixup", "diffusion_mixup")).split())
    assert "AUC of each attack, on all members" in text
    assert "hold for all attacks and populations of members at once" in text
    without = " ".join(screen(study("mixup")).split())
    assert "AUC of each attack (! the largest" in without
    assert "hold for all attacks at once" in without
    assert "population" not in without


def test_counts_that_differ_between_targets_are_summed_and_one_target_stands_alone(study) -> None:
    rows = study("diffusion_mixup")
    setting = "diffusion_mixup real=150"
    own = [row for row in rows if row["setting"] == setting and row["population"] == "direct" and row["seed"] == 0]
    for row in own:
        row["members"] = 140
    assert [line.members for line in lines(rows, setting)] == ["5 × 3,000", "740", "5 × 2,850"]
    one = [row for row in rows if row["seed"] in (0, "pooled")]
    assert [line.members for line in lines(one, setting)] == ["3,000", "140", "2,850"]


def test_an_attack_that_a_population_lacks_leaves_a_gap(study) -> None:
    rows = [row for row in study("diffusion_mixup") if (row["attack"], row["population"]) != ("nn", "direct")]
    (line,) = [each for each in block(screen(rows)) if each.startswith("  direct     5 × 150")]
    assert line.rstrip().endswith("-")
    assert len(re.findall(r"±", line)) == 3


def test_a_terminal_that_knows_ascii_alone_gets_ascii(study) -> None:
    raw = BytesIO()
    file = TextIOWrapper(raw, encoding="ascii")
    print_study_end(Console(file=file, width=80), study("diffusion_mixup"))
    file.flush()
    assert "5 x 2,850" in raw.getvalue().decode("ascii")


def test_verdicts_on_records_only_are_counted_and_explained(study) -> None:
    rows = [
        row | {"verdict": row["verdict"] + RECORDS_ONLY} if row["defense"] != "none" and row["verdict"] else row
        for row in study("mixup")
    ]
    said = summary_lines(rows)
    assert said[0] == f"4 of 5 settings are {SAME} (records only)."
    assert "plan.targets=3" in said[1]
    text = " ".join(screen(rows, 140).split())
    assert "less leakage than undefended (records only)" in text


def test_the_report_reads_what_the_metrics_write() -> None:
    """The other tests' rows are made by hand: these come from results, with two seeds and with one."""
    for seeds in (2, 1):
        none = setting("none", "none", [0.8, 0.82][:seeds], {"loss": [0.7, 0.72][:seeds]})
        names = ("loss", "loss/direct", "loss/indirect", "denoising_loss/generator")
        aucs = {name: [0.6 + number / 20, 0.61 + number / 20][:seeds] for number, name in enumerate(names)}
        diffusion = setting("diffusion_mixup real=5", "diffusion_mixup", [0.79, 0.8][:seeds], aucs)
        rows = table([none, diffusion])
        found = block(screen(rows))
        expected = ["none", "all", "diffusion_mixup", "all", "direct", "indirect"]
        assert [each.split()[0] for each in found[2:8]] == expected
        assert ("2 × 150" in found[7]) == (seeds == 2)
        assert "| diffusion_mixup real=5 | direct |" in generalization_gap_markdown(rows, "Gap")
        shown = svg_bytes(frontier_figure(rows, "title", "subtitle")).decode()
        assert 'id="loss/diffusion_mixup/direct"' in shown
        assert "denoising" not in shown
