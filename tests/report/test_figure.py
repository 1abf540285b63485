"""The frontier figure draws the rows and nothing else."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from raymia.metrics.comparison import LESS, SAME
from raymia.metrics.table import read_csv, write_csv
from raymia.report.figure import frontier_figure, write_frontier
from raymia.report.notes import notes
from raymia.report.panel import curves
from raymia.report.rows import pooled
from raymia.report.style import looks, svg_bytes


def artist(figure: Figure, gid: str):
    found = figure.findobj(lambda each: each.get_gid() == gid)
    assert len(found) <= 1, gid
    return found[0] if found else None


def panel(figure: Figure, attack: str) -> Axes:
    return artist(figure, f"panel/{attack}")


def pooled_of(rows, attack, defense, population="all"):
    wanted = ("pooled", attack, defense, population)
    return [row for row in rows if (row["seed"], row["attack"], row["defense"], row["population"]) == wanted]


def test_points_are_the_pooled_rows_of_each_attack_and_defense(study) -> None:
    rows = study()
    figure = frontier_figure(rows, "title", "subtitle")
    for attack in ("loss", "entropy", "modified_entropy", "nn"):
        for defense in ("none", "mixup", "label_smoothing", "early_stopping", "relaxloss", "dropout"):
            points = artist(figure, f"{attack}/{defense}/points")
            assert isinstance(points, PathCollection)
            expected = [(row["auc"], 100 * row["test_accuracy"]) for row in pooled_of(rows, attack, defense)]
            assert np.asarray(points.get_offsets()) == pytest.approx(np.array(expected))


def test_a_line_runs_through_the_settings_in_hyperparameter_order_whatever_the_order_of_rows(study) -> None:
    rows = study("relaxloss")
    figure = frontier_figure(rows[::-1], "title", "subtitle")
    by_alpha = sorted(pooled_of(rows, "loss", "relaxloss"), key=lambda row: row["relaxloss.alpha"])
    assert list(artist(figure, "loss/relaxloss/line").get_xdata()) == [row["auc"] for row in by_alpha]


def test_intervals_are_the_rows_own(study) -> None:
    rows = study("mixup")
    figure = frontier_figure(rows, "title", "subtitle")
    across = artist(figure, "loss/mixup/auc_intervals")
    along = artist(figure, "loss/mixup/accuracy_intervals")
    assert isinstance(across, LineCollection)
    for row, flat, upright in zip(
        pooled_of(rows, "loss", "mixup"), across.get_segments(), along.get_segments(), strict=True
    ):
        y = 100 * row["test_accuracy"]
        assert flat == pytest.approx(np.array([(row["auc_low"], y), (row["auc_high"], y)]))
        ends = [100 * row["test_accuracy_low"], 100 * row["test_accuracy_high"]]
        assert upright == pytest.approx(np.array([(row["auc"], end) for end in ends]))


def test_an_interval_that_is_none_is_left_out_and_the_point_stays(study) -> None:
    rows = study("mixup")
    lacking = pooled_of(rows, "loss", "mixup")[1]
    lacking["auc_low"] = lacking["auc_high"] = None
    figure = frontier_figure(rows, "title", "subtitle")
    heights = [segment[0][1] for segment in artist(figure, "loss/mixup/auc_intervals").get_segments()]
    assert len(heights) == 4
    assert 100 * lacking["test_accuracy"] not in heights
    assert len(artist(figure, "loss/mixup/points").get_offsets()) == 5


def test_without_any_interval_no_interval_is_drawn(study) -> None:
    rows = study("mixup")
    for row in rows:
        row.update(dict.fromkeys(("auc_low", "auc_high", "test_accuracy_low", "test_accuracy_high")))
    figure = frontier_figure(rows, "title", "subtitle")
    for defense in ("none", "mixup"):
        assert artist(figure, f"loss/{defense}/auc_intervals") is None
        assert artist(figure, f"loss/{defense}/accuracy_intervals") is None
    assert artist(figure, "loss/none/accuracy_band") is None


def test_undefended_is_a_star_with_its_bands_in_every_panel(study) -> None:
    rows = study("dropout")
    figure = frontier_figure(rows, "title", "subtitle")
    for attack in ("loss", "entropy", "modified_entropy", "nn"):
        base = pooled_of(rows, attack, "none")[0]
        star = artist(figure, f"{attack}/none/points")
        assert star.get_zorder() > artist(figure, f"{attack}/dropout/points").get_zorder()
        assert np.asarray(star.get_offsets()) == pytest.approx(np.array([(base["auc"], 100 * base["test_accuracy"])]))
        box = (
            artist(figure, f"{attack}/none/auc_band")
            .get_extents()
            .transformed(panel(figure, attack).transData.inverted())
        )
        assert (box.x0, box.x1) == pytest.approx((base["auc_low"], base["auc_high"]))
    assert not any("missing" in note for note in notes(rows))


def test_a_missing_undefended_model_is_said(study) -> None:
    rows = [row for row in study("dropout") if row["defense"] != "none"]
    assert "missing" in svg_bytes(frontier_figure(rows, "title", "subtitle")).decode()


def test_hollow_points_are_those_not_distinguishable_and_rings_those_on_the_frontier(study) -> None:
    rows = study("relaxloss")
    figure = frontier_figure(rows, "title", "subtitle")
    own = pooled_of(rows, "loss", "relaxloss")
    faces = [to_hex(face) for face in artist(figure, "loss/relaxloss/points").get_facecolors()]
    assert [face == "#ffffff" for face in faces] == [row["verdict"] == SAME for row in own]
    assert 0 < faces.count("#ffffff") < len(faces)
    ringed = [row for row in pooled_of(rows, "loss", "none") + own if row["on_frontier"]]
    rings = np.asarray(artist(figure, "loss/frontier").get_offsets())
    assert rings == pytest.approx(np.array([(row["auc"], 100 * row["test_accuracy"]) for row in ringed]))


def test_auc_starts_at_a_half_unless_data_lie_below(study) -> None:
    rows = study("mixup")
    figure = frontier_figure(rows, "title", "subtitle")
    assert {axes.get_xlim()[0] for axes in figure.axes} == {0.5}
    pooled_of(rows, "nn", "mixup")[0]["auc_low"] = 0.46
    below = frontier_figure(rows, "title", "subtitle")
    assert all(0.4 < axes.get_xlim()[0] < 0.46 for axes in below.axes)


def test_every_point_and_interval_lies_inside_the_axes(study) -> None:
    rows = study()
    for axes in frontier_figure(rows, "title", "subtitle").axes:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        for row in (row for row in rows if row["seed"] == "pooled"):
            assert left <= row["auc_low"] <= row["auc_high"] <= right
            assert bottom <= 100 * row["test_accuracy_low"] <= 100 * row["test_accuracy_high"] <= top


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_a_panel_for_each_attack_and_none_overlap(study, count: int) -> None:
    attacks = tuple(f"attack_{index}" for index in range(count))
    figure = frontier_figure(study("mixup", attacks=attacks), "title", "subtitle")
    assert [axes.get_gid() for axes in figure.axes] == [f"panel/{attack}" for attack in attacks]
    boxes = [axes.get_position() for axes in figure.axes]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert all(0 < box.x0 < box.x1 <= 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)


def test_the_legend_and_the_text_stay_on_the_sheet(study) -> None:
    for names in (("mixup",), ()):
        figure = frontier_figure(study(*names), "title", "a long subtitle of data set and sizes " * 6)
        figure.draw_without_rendering()
        sheet = figure.bbox
        for each in (*figure.legends, *figure.texts):
            box = each.get_window_extent()
            assert sheet.x0 <= box.x0
            assert box.x1 <= sheet.x1
        lowest_panel = min(axes.get_tightbbox().y0 for axes in figure.axes)
        legend = figure.legends[0].get_window_extent()
        assert legend.y1 < lowest_panel
        assert all(text.get_window_extent().y1 <= legend.y0 for text in figure.texts if text.get_position()[1] < 0.2)


def test_svg_names_defenses_attacks_title_and_the_missing_dp_sgd_line(study) -> None:
    rows = study()
    text = svg_bytes(frontier_figure(rows, "digits, scaled down", "5 target seeds")).decode()
    shown = "".join(ElementTree.fromstring(text).itertext())
    for phrase in ("mixup", "label smoothing", "early stopping", "relaxloss", "dropout", "none (undefended)"):
        assert phrase in shown
    for phrase in ("(a) loss", "(b) entropy", "(c) modified entropy", "(d) nn", "digits, scaled down"):
        assert phrase in shown
    for phrase in ("5 target seeds", "no DP-SGD line", "Upper left is better.", "95% intervals over target seeds"):
        assert phrase in " ".join(shown.split())
    assert 'id="panel/modified_entropy"' in text
    assert "(e)" not in shown


def test_the_note_about_dp_sgd_goes_when_its_line_is_there(study) -> None:
    rows = study("mixup")
    assert "no DP-SGD line" in notes(rows)
    assert "no DP-SGD line" not in notes([row | {"defense": "dp_sgd", "epsilon": 8.0} for row in rows])


def test_equal_rows_give_equal_bytes_and_other_rows_do_not(study, tmp_path: Path) -> None:
    first, again, other = tmp_path / "first", tmp_path / "again", tmp_path / "other"
    for folder in (first, again, other):
        folder.mkdir()
    png, svg = write_frontier(study("mixup"), first, "title", "subtitle")
    assert (png.name, svg.name) == ("frontier.png", "frontier.svg")
    write_frontier(study("mixup"), again, "title", "subtitle")
    write_frontier(study("dropout"), other, "title", "subtitle")
    for path in (png, svg):
        assert path.read_bytes() == (again / path.name).read_bytes()
        assert path.read_bytes() != (other / path.name).read_bytes()
    assert b"<dc:date>" not in svg.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG")


def test_the_rows_read_back_from_frontier_csv_give_the_same_figure(study, tmp_path: Path) -> None:
    rows = study()
    names = list(dict.fromkeys(name for row in rows for name in row))
    write_csv([{name: row.get(name) for name in names} for row in rows], tmp_path / "frontier.csv")
    read = read_csv(tmp_path / "frontier.csv")
    assert svg_bytes(frontier_figure(read, "t", "s")) == svg_bytes(frontier_figure(rows, "t", "s"))


def test_known_defenses_look_the_same_in_every_figure() -> None:
    assert looks(["relaxloss"])["relaxloss"] == looks(["mixup", "other", "relaxloss"])["relaxloss"]
    all_looks = list(looks(["diffusion_mixup", "dp_sgd", "selena", "hamp", "a", "b", "c"]).values())
    for look in zip(*all_looks, strict=True):
        assert len(set(look)) == len(all_looks)


def test_no_line_joins_settings_that_differ_in_two_numbers_and_variants_have_lines_of_their_own() -> None:
    def setting(alpha: float, variant: str, epochs: int = 1) -> dict[str, object]:
        return {"relaxloss.alpha": alpha, "relaxloss.variant": variant, "relaxloss.epochs": epochs}

    two = [setting(0.1, "a"), setting(0.2, "a"), setting(0.1, "b"), setting(0.2, "b")]
    assert curves(two) == [two[:2], two[2:]]
    searched = [setting(0.1, "a", 3), setting(0.2, "a", 5)]
    assert curves(searched) == [searched[:1], searched[1:]]


def test_populations_stand_small_at_their_settings_height_and_are_joined_to_it(study) -> None:
    rows = study("mixup", "diffusion_mixup")
    figure = frontier_figure(rows, "title", "subtitle")
    for attack in ("loss", "entropy", "modified_entropy", "nn"):
        points = np.asarray(artist(figure, f"{attack}/diffusion_mixup/points").get_offsets())
        assert points[:, 0] == pytest.approx([row["auc"] for row in pooled_of(rows, attack, "diffusion_mixup")])
        for population in ("direct", "indirect"):
            own = pooled_of(rows, attack, "diffusion_mixup", population)
            marks = artist(figure, f"{attack}/diffusion_mixup/{population}")
            assert np.asarray(marks.get_offsets()) == pytest.approx(
                np.array([(row["auc"], 100 * row["test_accuracy"]) for row in own])
            )
            assert marks.get_sizes()[0] < artist(figure, f"{attack}/diffusion_mixup/points").get_sizes()[0]
        joints = artist(figure, f"{attack}/diffusion_mixup/populations").get_segments()
        # The first setting has no direct members, the last no others.
        for joint, point, right in zip(joints, points[:4], (0, 0.14, 0.14, 0.14), strict=True):
            assert joint[:, 0] == pytest.approx([point[0] - 0.02, point[0] + right])
            assert joint[:, 1] == pytest.approx([point[1], point[1]])
        assert artist(figure, f"{attack}/mixup/populations") is None


def test_with_populations_the_worst_attack_has_a_panel_and_generators_have_none(study) -> None:
    rows = study("mixup", "diffusion_mixup")
    figure = frontier_figure(rows, "title", "subtitle")
    panels = [axes.get_gid() for axes in figure.axes]
    assert panels == [f"panel/{attack}" for attack in ("loss", "entropy", "modified_entropy", "nn", "worst")]
    worst = artist(figure, "worst/diffusion_mixup/points").get_offsets()
    assert [x for x, _ in worst] == pytest.approx(
        [row["auc"] for row in pooled(rows, "worst") if row["defense"] == "diffusion_mixup"]
    )
    assert artist(figure, "worst/diffusion_mixup/direct") is None
    shown = "".join(ElementTree.fromstring(svg_bytes(figure)).itertext())
    for phrase in ("(e) worst attack", "on direct members (trained on)", "on indirect members (not trained on)"):
        assert phrase in shown
    assert "denoising" not in shown
    left, right = figure.axes[0].get_xlim()
    every = [row["auc"] for row in rows if row["seed"] == "pooled" and row["population"] != "generator"]
    assert left < min(every)
    assert max(every) < right


def test_without_populations_nothing_is_said_of_them(study) -> None:
    shown = "".join(ElementTree.fromstring(svg_bytes(frontier_figure(study(), "title", "subtitle"))).itertext())
    assert "direct" not in shown
    assert "x and +" not in shown


@pytest.mark.parametrize("apart", [0.0005, 0.001, 0.0015, 0.002])
def test_no_label_is_crossed_by_what_joins_populations(study, apart: float) -> None:
    # Two settings at nearly one height: the populations of the upper one pass where the lower one's label would be.
    rows = [row for row in study("diffusion_mixup", attacks=("loss",)) if not row["setting"].endswith(("=0", "=3000"))]
    for row in rows:
        row["test_accuracy"] = 0.72 + {"=150": 0.0, "=300": apart}.get(row["setting"][-4:], -0.02)
        row["test_accuracy_low"] = row["test_accuracy_high"] = None
        if row["setting"].endswith("=300") and row["population"] == "all":
            row["auc"] = row["auc_low"] = row["auc_high"] = 0.52
    figure = frontier_figure(rows, "title", "subtitle")
    figure.draw_without_rendering()
    to_data = panel(figure, "loss").transData.inverted()
    labels = figure.findobj(lambda each: each.get_gid() == "loss/diffusion_mixup/label")
    assert labels
    for label in labels:
        box = label.get_window_extent().transformed(to_data)
        for (left, y), (right, _) in artist(figure, "loss/diffusion_mixup/populations").get_segments():
            assert not (box.x0 < right and left < box.x1 and box.y0 < y < box.y1), label.get_text()


def test_records_only_verdicts_are_hollow_and_the_legend_says_which(study) -> None:
    rows = [row | {"verdict": f"{SAME} (records only)"} if row["verdict"] == SAME else row for row in study("mixup")]
    figure = frontier_figure(rows, "title", "subtitle")
    faces = [to_hex(face) for face in artist(figure, "loss/mixup/points").get_facecolors()]
    assert faces.count("#ffffff") == sum(row["verdict"] != LESS for row in pooled_of(rows, "loss", "mixup")) > 0
    assert "hollow: not distinguishable from undefended (records only)" in [
        text.get_text() for text in figure.legends[0].get_texts()
    ]


def test_rows_without_a_result_are_not_drawn(study) -> None:
    rows = study("mixup")
    for row in pooled_of(rows, "loss", "mixup")[:2]:
        row["auc"] = None
    assert len(artist(frontier_figure(rows, "title", "subtitle"), "loss/mixup/points").get_offsets()) == 3
    with pytest.raises(ValueError, match="nothing to draw"):
        frontier_figure([row | {"auc": None} for row in rows], "title", "subtitle")
