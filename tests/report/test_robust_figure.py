"""The figure of three objectives draws the rows, pair by pair, and nothing else."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from raymia.metrics.table import read_csv, write_csv
from raymia.report.figure import frontier_figure
from raymia.report.robust_figure import robust_frontier_figure, write_robust_frontier
from raymia.report.rows import pooled
from raymia.report.style import svg_bytes
from tests.report.robust_study import METHODS, robust_results, robust_rows, without_one

# Column and scale of both axes of each panel.
PANELS = {
    "leakage_accuracy": (("auc", 1), ("test_accuracy", 100)),
    "robustness_accuracy": (("robust_accuracy_aa", 100), ("test_accuracy", 100)),
    "leakage_robustness": (("auc", 1), ("robust_accuracy_aa", 100)),
}
PARTS = {"auc": "auc", "test_accuracy": "accuracy", "robust_accuracy_aa": "robust_accuracy"}


def drawn(rows) -> Figure:
    figure = robust_frontier_figure(rows, "title", "subtitle")
    assert figure is not None
    return figure


def artist(figure: Figure, gid: str):
    found = figure.findobj(lambda each: each.get_gid() == gid)
    assert len(found) <= 1, gid
    return found[0] if found else None


def of_defense(rows, defense: str):
    return [row for row in pooled(rows, "worst") if row["defense"] == defense]


def points(rows, panel: str) -> np.ndarray:
    (x, across), (y, along) = PANELS[panel]
    return np.array([(across * row[x], along * row[y]) for row in rows])


@pytest.mark.parametrize("panel", PANELS)
def test_points_lines_and_intervals_are_the_rows_own(panel: str) -> None:
    rows = robust_rows()
    figure = drawn(rows)
    for defense in ("none", "mixup", *METHODS):
        own = of_defense(rows, defense)
        marks = artist(figure, f"{panel}/{defense}/points")
        assert np.asarray(marks.get_offsets()) == pytest.approx(points(own, panel))
        for axis, (column, scale) in enumerate(PANELS[panel]):
            ends = artist(figure, f"{panel}/{defense}/{PARTS[column]}_intervals").get_segments()
            expected = [(scale * row[f"{column}_low"], scale * row[f"{column}_high"]) for row in own]
            assert np.array([segment[:, axis] for segment in ends]) == pytest.approx(np.array(expected))
        if defense in METHODS:
            line = artist(figure, f"{panel}/{defense}/line")
            assert np.column_stack(line.get_data()) == pytest.approx(points(own, panel))


@pytest.mark.parametrize("panel", PANELS)
def test_rings_are_the_frontier_of_three_objectives(panel: str) -> None:
    rows = robust_rows()
    found = pooled(rows, "worst")
    ringed = [row for row in found if row["on_robust_frontier"]]
    assert 0 < len(ringed) < len(found)
    assert ringed != [row for row in found if row["on_frontier"]]
    rings = np.asarray(artist(drawn(rows), f"{panel}/frontier").get_offsets())
    assert rings == pytest.approx(points(ringed, panel))


def test_panels_share_the_axes_by_which_a_setting_is_found_again() -> None:
    figure = drawn(robust_rows())
    first, beside, below = figure.axes
    assert [axes.get_gid() for axes in figure.axes] == [f"panel/{name}" for name in PANELS]
    assert first.get_ylim() == beside.get_ylim()
    assert first.get_xlim() == below.get_xlim()
    assert beside.get_xlim() == below.get_ylim()
    boxes = [axes.get_position() for axes in (first, beside, below)]
    assert (boxes[0].y0, boxes[0].y1) == (boxes[1].y0, boxes[1].y1)
    assert (boxes[0].x0, boxes[0].x1) == (boxes[2].x0, boxes[2].x1)
    # Chance is a matter of the AUC.
    assert artist(figure, "leakage_accuracy/chance") is not None
    assert artist(figure, "leakage_robustness/chance") is not None
    assert artist(figure, "robustness_accuracy/chance") is None


def test_undefended_has_its_bands_along_the_axes_of_each_panel() -> None:
    figure = drawn(robust_rows("pgd_at"))
    there = {
        f"{panel}/none/{part}_band": artist(figure, f"{panel}/none/{part}_band") is not None
        for panel in PANELS
        for part in PARTS.values()
    }
    assert there == {
        f"{panel}/none/{part}_band": column in dict(axes)
        for panel, axes in PANELS.items()
        for column, part in PARTS.items()
    }


def test_every_point_and_interval_lies_inside_the_axes() -> None:
    rows = robust_rows()
    for axes, ((x, across), (y, along)) in zip(drawn(rows).axes, PANELS.values(), strict=True):
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        for row in pooled(rows, "worst"):
            assert left <= across * row[f"{x}_low"] <= across * row[f"{x}_high"] <= right
            assert bottom <= along * row[f"{y}_low"] <= along * row[f"{y}_high"] <= top


@pytest.mark.parametrize("more", [0, 15])
def test_nothing_overlaps_and_nothing_leaves_the_sheet(more: int) -> None:
    rows = robust_rows()
    extra = [
        row | {"defense": f"a_defense_with_a_name_so_long_that_it_must_break_{number}", "setting": f"extra {number}"}
        for number in range(more)
        for row in rows
        if row["setting"] == "mixup mixup.alpha=0.5"
    ]
    figure = robust_frontier_figure([*rows, *extra], "title", "a long subtitle of data set and sizes " * 6)
    assert figure is not None
    figure.draw_without_rendering()
    sheet, legend = figure.bbox, figure.legends[0].get_window_extent()
    panels = [axes.get_tightbbox() for axes in figure.axes]
    texts = [text.get_window_extent() for text in figure.texts]
    boxes = [*panels, *texts, legend]
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])
    for box in boxes:
        assert sheet.x0 <= box.x0 < box.x1 <= sheet.x1
        assert sheet.y0 <= box.y0 < box.y1 <= sheet.y1


def test_the_figure_says_what_it_shows() -> None:
    text = svg_bytes(drawn(robust_rows("pgd_at"))).decode()
    shown = " ".join("".join(ElementTree.fromstring(text).itertext()).split())
    for phrase in ("(a) leakage and accuracy", "(b) robustness and accuracy", "(c) leakage and robustness"):
        assert phrase in shown
    for phrase in ("robust accuracy, AutoAttack (%)", "worst-attack AUC (0.5 = chance)", "test accuracy (%)", "title"):
        assert phrase in shown
    for phrase in ("ringed: on the frontier of all three", "hollow: AUC not", "no DP-SGD line", "better by the third"):
        assert phrase in shown
    assert "Upper left is better" not in shown
    cheaper = "".join(ElementTree.fromstring(svg_bytes(drawn(robust_rows("awp", evaluations=["pgd20"])))).itertext())
    assert "robust accuracy, PGD-20 (%)" in cheaper
    assert "AutoAttack" not in cheaper


def test_a_setting_without_robust_accuracy_stands_in_the_first_panel_alone() -> None:
    rows = without_one(robust_results("pgd_at"), 3)
    figure = drawn(rows)
    counts = {panel: len(artist(figure, f"{panel}/pgd_at/points").get_offsets()) for panel in PANELS}
    assert counts == {"leakage_accuracy": 4, "robustness_accuracy": 3, "leakage_robustness": 3}
    assert artist(figure, "leakage_accuracy/frontier") is None
    shown = "".join(ElementTree.fromstring(svg_bytes(figure)).itertext())
    assert "No frontier of three objectives" in shown
    assert "ringed" not in shown


def test_equal_rows_give_equal_bytes_and_other_rows_do_not(tmp_path: Path) -> None:
    written = []
    for name, rows in (("first", robust_rows("awp")), ("again", robust_rows("awp")), ("other", robust_rows("mart"))):
        (tmp_path / name).mkdir()
        paths = write_robust_frontier(rows, tmp_path / name, "title", "subtitle")
        assert paths is not None
        assert [path.relative_to(tmp_path / name).as_posix() for path in paths] == [
            "robust_frontier.png",
            "robust_frontier.svg",
        ]
        written.append([path.read_bytes() for path in paths])
    first, again, other = written
    assert first == again
    assert all(one != changed for one, changed in zip(first, other, strict=True))
    assert first[0].startswith(b"\x89PNG")


def test_the_rows_read_back_from_frontier_csv_give_the_same_figure(tmp_path: Path) -> None:
    rows = robust_rows("awp", "trades")
    write_csv(rows, tmp_path / "frontier.csv")
    assert svg_bytes(drawn(read_csv(tmp_path / "frontier.csv"))) == svg_bytes(drawn(rows))


def test_without_robustness_nothing_is_written(study, tmp_path: Path) -> None:
    assert write_robust_frontier(study("mixup"), tmp_path, "title", "subtitle") is None
    assert write_robust_frontier([], tmp_path, "title", "subtitle") is None
    assert list(tmp_path.iterdir()) == []


def test_the_frontier_figure_is_what_it_is_without_robust_accuracy() -> None:
    rows = robust_rows("pgd_at")
    bare = [{name: value for name, value in row.items() if "robust" not in name} for row in rows]
    assert svg_bytes(frontier_figure(rows, "t", "s")) == svg_bytes(frontier_figure(bare, "t", "s"))
