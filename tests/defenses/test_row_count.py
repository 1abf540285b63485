"""The rows that a defense trains on are told before there are any: as many as it then has."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from raymia.defenses import DMP, DiffusionMixup, GeneratedOnly, build_defense
from raymia.diffusion.synthesis import Synthesis
from raymia.training.defense import Composed, Defense
from tests.defenses.test_diffusion_mixup import CLASSES, MEMBERS, context, generated, members
from tests.defenses.test_dmp import MEMBERS as TAUGHT
from tests.defenses.test_dmp import context as taught_context
from tests.defenses.test_dmp import student_rows

PER_CLASS = 3
SET = SimpleNamespace(per_class=PER_CLASS)  # as the recipe of the images says


@pytest.mark.parametrize(
    ("defense", "count"),
    [
        (DiffusionMixup(subset=0.0), 9),
        (DiffusionMixup(subset=0.25), 9 + 5),
        (DiffusionMixup(subset=0.25, pairing="cross"), 9 + 5),
        (DiffusionMixup(subset=0.25, source="members", per_class=7), 21 + 5),
        (DiffusionMixup(subset=0.25, source="members", per_class=1), MEMBERS),
        (GeneratedOnly.of(Synthesis(PER_CLASS, 0.5), taken=2), 6),
        (GeneratedOnly.of(Synthesis(PER_CLASS, 0.5), taken=50), 9),
        (build_defense("mixup", {"alpha": 0.5}), MEMBERS),
        (build_defense("label_smoothing", {"epsilon": 0.1}), MEMBERS),
    ],
    ids=str,
)
def test_as_many_rows_as_are_trained_on(defense: Defense, count: int) -> None:
    assert len(defense.training_set(context(), {"images": generated(PER_CLASS * CLASSES)}, members())) == count
    assert defense.row_count(context(), {"images": SET}, MEMBERS) == count


@pytest.mark.parametrize(("keep", "count"), [(1.0, 4), (0.75, 3), (0.51, 3), (0.01, 2)])
def test_a_students_rows_are_those_that_its_teacher_is_surest_of(keep: float, count: int) -> None:
    reserved, drawn = DMP(keep=keep), DMP(source="generated", keep=keep)
    assert len(student_rows(reserved)) == len(student_rows(drawn)) == count
    assert reserved.row_count(taught_context(reserve=4), {}, TAUGHT) == count
    four = replace(taught_context(reserve=0), classes=4)
    assert drawn.row_count(four, {"images": SimpleNamespace(per_class=1)}, TAUGHT) == count


def test_composed_each_counts_from_the_one_before_and_sees_its_own_recipes() -> None:
    both = Composed((DiffusionMixup(subset=0.25), build_defense("label_smoothing", {"epsilon": 0.1})))
    inputs = {"diffusion_mixup/images": generated(9), "other/images": None}
    assert len(both.training_set(context(), inputs, members())) == 14
    assert both.row_count(context(), {"diffusion_mixup/images": SET, "other/images": None}, MEMBERS) == 14
    assert Composed(()).row_count(context(), {}, 7) == 7
