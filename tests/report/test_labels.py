"""Labels never cover each other, a point, or the frame."""

from hypothesis import given
from hypothesis import strategies as st

from raymia.report.labels import Box, place

FRAME = Box(0, 0, 100, 100)
SPOTS = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=25)


def test_a_lone_label_stands_beside_its_point() -> None:
    (box,) = place([(50, 50, 10, 6)], [Box(47, 47, 53, 53)], FRAME)
    assert box == Box(54, 54, 64, 60)


def test_a_label_without_room_is_left_out() -> None:
    assert place([(50, 50, 10, 6)], [FRAME], FRAME) == [None]


@given(SPOTS)
def test_placed_labels_meet_nothing_and_stay_in_the_frame(spots: list[tuple[float, float]]) -> None:
    taken = [Box(x - 3, y - 3, x + 3, y + 3) for x, y in spots]
    found = place([(x, y, 12, 6) for x, y in spots], taken, FRAME)
    assert len(found) == len(spots)
    boxes = [box for box in found if box is not None]
    for index, box in enumerate(boxes):
        assert box.within(FRAME)
        assert not any(box.meets(other) for other in (*taken, *boxes[:index]))
