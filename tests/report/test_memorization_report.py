"""The figure and the table of leakage by memorization."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from raymia.metrics.caught import TargetAnswers
from raymia.metrics.memorization_bins import HIGHER, LOWER, UNRESOLVED, SettingAnswers, memorization_rows
from raymia.report.memorization import memorization_figure, settings_drawn, write_memorization
from raymia.report.memorization_table import memorization_table, verdict_line
from raymia.report.style import looks

Row = dict[str, Any]


def targets(leak: float, count: int = 4) -> tuple[TargetAnswers, ...]:
    made = []
    for number in range(count):
        rng = np.random.default_rng(number)
        member = rng.permutation(np.arange(200) % 2 == 0)
        memorization = np.maximum(rng.uniform(-1, 0.7, 200), 0)
        # The highest bin has a member and a non-member of one target alone: no interval over targets.
        memorization[[member.argmax(), member.argmin()]] = 0.9 if number == 0 else 0.0
        scores = rng.normal(size=200) + leak * member * (0.5 + memorization)
        made.append(TargetAnswers(scores, member, rng.random(200) < 0.8, memorization))
    return tuple(made)


def rows_of(*leaks: float, bins: int = 5, count: int = 4) -> list[Row]:
    """Undefended, and a setting of mixup for each further leak."""
    settings = [SettingAnswers("none", "none", {}, "loss", targets(leaks[0], count))]
    settings += [
        SettingAnswers(f"mixup alpha={number}", "mixup", {"mixup.alpha": number}, "loss", targets(leak, count))
        for number, leak in enumerate(leaks[1:], start=1)
    ]
    return memorization_rows(settings, bins, 0.1, np.random.default_rng(0))


def panel(figure: Figure, name: str) -> Axes:
    [found] = [axes for axes in figure.axes if axes.get_gid() == f"panel/{name}"]
    return found


def texts(figure: Figure) -> str:
    return " ".join(one.get_text() for one in figure.texts)


def drawn(rows: list[Row], **options: Any) -> Figure:
    return memorization_figure(rows, options.get("table", []), "A title", "How it was measured")


@pytest.mark.parametrize("name", ["tpr", "test_accuracy"])
def test_each_setting_has_a_line_through_its_bins_with_intervals(name: str) -> None:
    rows = rows_of(3, 1, 0)
    axes = panel(drawn(rows), name)
    lines = {line.get_gid(): line for line in axes.get_lines()}
    for setting in ("none", "mixup alpha=1", "mixup alpha=2"):
        own = [row for row in rows if row["setting"] == setting and row[f"{name}_low"] is not None]
        assert 3 <= len(own) <= 4
        line = lines[f"{name}/{setting}/line"]
        assert [round(float(x)) for x in np.asarray(line.get_xdata())] == [row["bin"] for row in own]
        np.testing.assert_allclose(np.asarray(line.get_ydata()), [100 * row[name] for row in own])
        [bars] = [one for one in axes.collections if one.get_gid() == f"{name}/{setting}/intervals"]
        ends = [[y for _, y in segment] for segment in bars.get_segments()]  # type: ignore[attr-defined]
        np.testing.assert_allclose(ends, [[100 * row[f"{name}_low"], 100 * row[f"{name}_high"]] for row in own])
    assert any(row[name] is not None and row[f"{name}_low"] is None for row in rows)
    assert lines[f"{name}/none/line"].get_color() == (0.0, 0.0, 0.0)
    colors = {lines[f"{name}/mixup alpha={number}/line"].get_color() for number in (1, 2)}
    assert len(colors) == 2
    assert lines[f"{name}/mixup alpha=1/line"].get_marker() == looks(["mixup"])["mixup"][1]


def test_the_strip_says_how_many_records_a_bin_has() -> None:
    rows = rows_of(3, 1)
    axes = panel(drawn(rows), "records")
    first = [row for row in rows if row["setting"] == "none"]
    heights = [patch.get_height() for patch in axes.patches]  # type: ignore[attr-defined]
    assert heights == [row["members"] for row in first] + [row["nonmembers"] for row in first]
    assert [one.get_text() for one in axes.texts] == [f"{round(high):,}" for high in heights]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["up to 0", "0 to 0.25", "0.25 to 0.5", "0.5 to 0.75", "0.75 to 1"]


def test_the_figure_says_what_its_intervals_are_over() -> None:
    assert "95% intervals over 4 targets" in texts(drawn(rows_of(3, 1)))
    assert "95% intervals of the records of one target" in texts(drawn(rows_of(3, 1, count=1)))
    assert "Attack: loss." in texts(drawn(rows_of(3, 1)))


def test_twenty_one_bins_keep_their_labels_apart() -> None:
    rows = rows_of(3, 1, bins=21)
    figure = drawn(rows)
    axes = panel(figure, "records")
    figure.draw_without_rendering()
    labels = axes.get_xticklabels()
    assert [one.get_text() for one in labels[:3]] == ["0", "0.05", "0.1"]
    first = [row for row in rows if row["setting"] == "none"]
    assert [one.get_text() for one in axes.texts] == [f"{row['members'] + row['nonmembers']:,}" for row in first]
    assert len(labels) == 21
    # Turned text is as wide as the space between two bins allows, seen along the axis.
    step = np.diff(axes.transData.transform([(0, 0), (1, 0)])[:, 0])[0]
    assert all(label.get_rotation() == 60 and float(label.get_fontsize()) / 72 * figure.dpi < step for label in labels)


def test_too_many_settings_are_shown_by_the_one_chosen_for_each_defense(study: Any) -> None:
    table = study("mixup", "dropout", "relaxloss")
    names = list(dict.fromkeys(row["setting"] for row in table))
    assert len(names) == 19
    rows = [{"setting": name} for name in names]
    kept = settings_drawn(rows, table)
    assert [name.split()[0] for name in kept] == ["none", "mixup", "dropout", "relaxloss"]
    assert kept == [name for name in names if name in kept]
    assert settings_drawn(rows[:9], table) == names[:9]


def test_equal_rows_give_equal_files(tmp_path: Any) -> None:
    rows = rows_of(3, 1)
    (tmp_path / "again").mkdir()
    first = write_memorization(rows, [], tmp_path, "A title", "How")
    second = write_memorization(rows, [], tmp_path / "again", "A title", "How")
    assert [path.name for path in first] == ["memorization.png", "memorization.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def shown(rows: list[Row], width: int = 140) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(memorization_table(rows, width))
    return captured.get()


def test_the_table_has_each_bin_with_its_interval_and_difference() -> None:
    rows = rows_of(3, 1)
    text = shown(rows)
    for row in rows:
        if row["tpr_low"] is not None:
            assert f"{100 * row['tpr']:.1f} [{100 * row['tpr_low']:.1f}, {100 * row['tpr_high']:.1f}]" in text
        if row["delta_tpr_low"] is not None:
            assert f"Δ {100 * row['delta_tpr']:+.1f} [{100 * row['delta_tpr_low']:+.1f}" in text
    assert "at 10% false positives" in text
    assert f"{rows[0]['members']} members" in text


@pytest.mark.parametrize("bins", [2, 3, 5])
@pytest.mark.parametrize("width", [72, 80, 100, 140])
def test_on_no_terminal_a_number_is_broken(width: int, bins: int) -> None:
    rows = rows_of(3, 1, 2.9, bins=bins)
    text = shown(rows, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    assert f"{rows[0]['members']:,} members" in text
    for row in rows:
        for name, form in (("tpr", ".1f"), ("delta_tpr", "+.1f")):
            if row[f"{name}_low"] is not None:
                low, high = (f"{100 * row[f'{name}_{end}']:{form}}" for end in ("low", "high"))
                assert f"{100 * row[name]:{form}}" in text
                assert f"[{low}, {high}]" in text
        assert str(row["setting"]) in text


def test_bins_that_do_not_fit_beside_one_another_follow_below() -> None:
    rows = rows_of(3, 1)
    wide, narrow = (shown(rows, width) for width in (140, 80))
    for text, lines in ((wide, 1), (narrow, 5)):
        upper = text.partition("slope of")[0]
        assert len([line for line in upper.splitlines() if "mixup alpha=1" in line]) == lines
    assert "0.25 to 0.5" in narrow


def test_of_many_bins_the_lowest_the_middle_and_the_highest_are_shown() -> None:
    rows = rows_of(3, 1, bins=21)
    numbers = sorted({row["bin"] for row in rows if row["members"]})
    text = shown(rows)
    head = next(line for line in text.splitlines() if line.startswith("            "))
    edges = {row["bin"]: row for row in rows}
    expected = [edges[number] for number in (numbers[0], numbers[len(numbers) // 2], numbers[-1])]
    words = ["up to 0", *(f"{row['above']:g} to {row['up_to']:g}" for row in expected[1:])]
    assert [one.strip() for one in head.split("  ") if one.strip()] == words


def verdicts(*kinds: str, targets: int = 5) -> list[Row]:
    return [
        {"setting": f"mixup alpha={number}", "bin": bin_, "verdict": kind, "targets": targets}
        for number, kind in enumerate(kinds)
        for bin_ in (0, 1)
    ]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((HIGHER,), "Takes more where memorization is high: mixup alpha=0."),
        ((LOWER,), "Takes more where memorization is low: mixup alpha=0."),
        (
            (UNRESOLVED,),
            "Whether the reduction grows with memorization cannot be resolved with 5 targets: mixup alpha=0.",
        ),
        (
            (UNRESOLVED, UNRESOLVED),
            "Whether the reduction grows with memorization cannot be resolved with 5 targets: each setting.",
        ),
        (
            (UNRESOLVED, HIGHER, LOWER),
            "Takes more where memorization is high: mixup alpha=1. Takes more where memorization is low: "
            "mixup alpha=2. Whether the reduction grows with memorization cannot be resolved with 5 targets: "
            "mixup alpha=0.",
        ),
        (("undefended",), "No defense is compared with undefended."),
    ],
)
def test_the_verdict_in_a_line(kinds: tuple[str, ...], expected: str) -> None:
    assert verdict_line(verdicts(*kinds)) == expected


def test_one_target_resolves_nothing() -> None:
    text = " ".join(shown(rows_of(3, 1, count=1)).split())
    assert "cannot be resolved with 1 target: mixup alpha=1." in text
    assert "of the records of one target" in text
