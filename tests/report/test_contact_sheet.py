"""The contact sheet shows the images it was given, where they belong, and says what it leaves out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from raymia.records.digits import digits_records
from raymia.report.contact_sheet import (
    CLOSEST,
    KEPT,
    MOST_CLASSES,
    REJECTED,
    Pairs,
    contact_sheet,
    notes,
    shown_classes,
    write_contact_sheet,
)


@dataclass(frozen=True)
class Drawn:
    conditions: np.ndarray
    labels: np.ndarray
    confidences: np.ndarray
    images: np.ndarray


def drawn(conditions: list[int], labels: list[int], confidences: list[float], shape=(8, 8, 1), seed: int = 0) -> Drawn:
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), *shape), dtype=np.uint8)
    return Drawn(np.array(conditions, int), np.array(labels, int), np.array(confidences, np.float32), images)


def pairs(count: int, shape=(8, 8, 1)) -> Pairs:
    draw = np.random.default_rng(9)
    generated, training = (draw.integers(0, 256, (count, *shape), dtype=np.uint8) for _ in range(2))
    distances = draw.permutation(count) / 4.0
    return Pairs(generated, training, distances, distances < 1)


NAMES = ("cat", "dog")
NOTHING = drawn([], [], [])


def sheet(kept: Drawn = NOTHING, rejected: Drawn = NOTHING, closest: Pairs | None = None, names=NAMES) -> Figure:
    return contact_sheet(kept, rejected, closest or pairs(0), names, "title", "subtitle")


def shown(figure: Figure) -> dict[str, np.ndarray]:
    return {each.get_gid(): np.asarray(each.get_array()) for each in figure.findobj(AxesImage)}


def texts(figure: Figure) -> list[str]:
    return [each.get_text() for each in figure.axes[0].texts]


def top(figure: Figure, name: str) -> float:
    return next(each.get_extent()[3] for each in figure.findobj(AxesImage) if each.get_gid() == name)


def test_every_image_stands_in_its_class_in_the_order_given() -> None:
    kept = drawn([1, 0, 1], [1, 0, 1], [0.91, 0.92, 0.93])
    figure = sheet(kept)
    found = shown(figure)
    assert set(found) == {"dog/kept/0", "dog/kept/1", "cat/kept/0"}
    for name, row in (("dog/kept/0", 0), ("cat/kept/0", 1), ("dog/kept/1", 2)):
        assert np.array_equal(found[name], kept.images[row, :, :, 0])
    assert top(figure, "cat/kept/0") > top(figure, "dog/kept/0") == top(figure, "dog/kept/1")
    assert [text for text in texts(figure) if text.startswith("0.")] == ["0.92", "0.91", "0.93"]


def test_a_rejected_image_is_in_the_row_it_was_drawn_for_with_what_it_was_taken_for() -> None:
    rejected = drawn([0, 0, 1], [1, 0, 1], [0.97, 0.31, 0.42])
    figure = sheet(rejected=rejected)
    assert np.array_equal(shown(figure)["cat/rejected/0"], rejected.images[0, :, :, 0])
    assert "seen as dog" in texts(figure)
    assert texts(figure).count("below threshold") == 2
    assert {"0.97", "0.31", "0.42"} <= set(texts(figure))


def test_without_conditions_the_classifiers_label_is_the_class() -> None:
    figure = sheet(drawn([-1], [1], [0.9]), drawn([-1], [0], [0.2]))
    assert set(shown(figure)) == {"dog/kept/0", "cat/rejected/0"}
    assert "below threshold" in texts(figure)
    assert not any("seen as" in text for text in texts(figure))


def test_only_rejected_images_are_framed_in_the_warning_color() -> None:
    figure = sheet(drawn([0], [0], [0.9]), drawn([1], [1], [0.2]))
    frames = {each.get_x(): each.get_edgecolor()[:3] for each in figure.axes[0].patches}
    (kept, rejected) = (frames[x] for x in sorted(frames))
    assert len(set(kept)) == 1  # gray
    assert rejected[0] > 0.8 > rejected[2]


def test_a_class_without_kept_images_says_so() -> None:
    assert texts(sheet(drawn([1], [1], [0.9]))).count("none kept") == 1


def test_no_more_than_fit_are_shown_and_the_lowest_ids_win() -> None:
    kept, rejected = drawn([0] * 30, [0] * 30, [0.9] * 30), drawn([0] * 30, [0] * 30, [0.1] * 30, seed=1)
    found = shown(sheet(kept, rejected))
    assert len(found) == KEPT + REJECTED
    assert np.array_equal(found[f"cat/kept/{KEPT - 1}"], kept.images[KEPT - 1, :, :, 0])


def test_the_strip_shows_the_pairs_of_least_distance_side_by_side() -> None:
    closest = pairs(30)
    figure = sheet(closest=closest)
    found = shown(figure)
    order = np.argsort(closest.distances)
    assert len(found) == 2 * CLOSEST
    for place, row in enumerate(order[:CLOSEST]):
        assert np.array_equal(found[f"closest/generated/{place}"], closest.generated[row, :, :, 0])
        assert np.array_equal(found[f"closest/training/{place}"], closest.training[row, :, :, 0])
    assert [text for text in texts(figure) if text.endswith("copy")] == [f"{n / 4:.2f} copy" for n in range(4)]


def test_many_classes_keep_the_height_and_say_what_is_left_out() -> None:
    names = [f"class {number}" for number in range(100)]
    labels = list(range(100))
    figure = sheet(drawn(labels, labels, [0.9] * 100), names=names)
    shown_names = {name.split("/")[0] for name in shown(figure)}
    assert len(shown_names) == len(shown_classes(100)) == MOST_CLASSES
    assert {"class 0", "class 99"} <= shown_names
    assert any("88 of 100 classes are left out" in text for text in texts(figure))
    assert figure.get_figheight() < 14
    assert shown_classes(MOST_CLASSES) == list(range(MOST_CLASSES))
    assert not any("left out" in note for note in notes(MOST_CLASSES))


def test_color_images_and_pixels_as_they_are() -> None:
    kept = drawn([0], [0], [0.9], shape=(32, 32, 3))
    image = next(each for each in sheet(kept).findobj(AxesImage))
    assert np.array_equal(np.asarray(image.get_array()), kept.images[0])
    assert image.get_interpolation() == "nearest"
    gray = next(each for each in sheet(drawn([0], [0], [0.9])).findobj(AxesImage))
    # The same gray for the same byte, in a dark image too.
    assert gray.get_clim() == (0, 255)


def test_refuses_images_nobody_can_see() -> None:
    with pytest.raises(ValueError, match="4 channels"):
        sheet(drawn([0], [0], [0.9], shape=(8, 8, 4)))


def test_no_text_runs_over_the_edge_or_into_an_image() -> None:
    names = ["automobile", "aquarium fish", "a name of very many words and letters", r"sea$\bad$"] * 3
    labels = list(range(12))
    rejected = drawn(labels * 3, [(label + 2) % 12 for label in labels] * 3, [0.5] * 36, seed=1)
    figure = sheet(drawn(labels * 8, labels * 8, [1.0] * 96), rejected, pairs(10), names)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    boxes = [each.get_window_extent(renderer) for each in figure.axes[0].texts]
    images = [each.get_window_extent(renderer) for each in figure.findobj(AxesImage)]
    for box in boxes:
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y0 >= 0
        assert box.y1 <= figure.bbox.height
        assert not any(box.overlaps(image) for image in images)
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])


def test_equal_images_give_equal_files(tmp_path: Path) -> None:
    records = digits_records(15)
    kept = Drawn(records.labels, records.labels, np.full(15, 0.9, np.float32), records.inputs)
    first, second = tmp_path / "first", tmp_path / "second"
    written = []
    for folder in (first, second):
        folder.mkdir()
        written.append(write_contact_sheet(folder, kept, NOTHING, pairs(3), records.class_names, "title", "subtitle"))
    assert [path.name for path in written[0]] == ["contact_sheet.png", "contact_sheet.svg"]
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(*written, strict=True))
