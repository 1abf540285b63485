"""Which defenses cannot be one: those that would undo each other are refused, in a line that says what to do."""

from collections.abc import Mapping
from typing import Any

import pytest

from raymia.defenses import (
    DMP,
    HAMP,
    ConfidencePenalty,
    CustomTraining,
    DiffusionMixup,
    Distillation,
    EarlyStopping,
    LabelSmoothing,
    MemGuard,
    Mixup,
    RelaxLoss,
    Selena,
    Undefended,
)
from raymia.errors import InputError
from raymia.training.defense import Composed, Defense, TrainingSet
from tests.training.conftest import Doubled

MIXED = DiffusionMixup(subset=0.1)
CUSTOM = CustomTraining(function="a:b")
SMOOTHED = LabelSmoothing(epsilon=0.1)
RELAXED = RelaxLoss(alpha=1)

UNDONE = [
    (SMOOTHED, MIXED, "write diffusion_mixup before it"),
    (HAMP(gamma=0.5), Selena(), "write selena before it"),
    (SMOOTHED, DMP(), "write dmp before it"),
    (RELAXED, DMP(temperature=2), "write dmp before it"),
    (Distillation(), DMP(), "write dmp before it"),
    (Distillation(), RELAXED, "keep one"),
    (RELAXED, Distillation(), "keep one"),
    (HAMP(gamma=0.5), MemGuard(budget=1), "keep one"),
    (MemGuard(budget=1), HAMP(gamma=0.5), "keep one"),
    (CUSTOM, Mixup(alpha=1), "leave one out"),
    (Mixup(alpha=1), CUSTOM, "leave one out"),
    (RELAXED, CUSTOM, "leave one out"),
    (CUSTOM, EarlyStopping(fraction=0.5), "leave one out"),
    (CUSTOM, MemGuard(budget=1), "leave one out"),
    (Selena(), DMP(), "keep one"),
    (MIXED, Selena(), "keep one"),
    (CUSTOM, CustomTraining(function="a:c"), "keep one"),
]


def refusal(*parts: Defense) -> str:
    with pytest.raises(InputError) as caught:
        Composed(parts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("first", "second", "remedy"), UNDONE, ids=lambda one: getattr(one, "name", ""))
@pytest.mark.parametrize("between", [(), (Undefended(),), (Mixup(alpha=0.5),)], ids=["", "none", "mixup"])
def test_what_would_undo_another_is_refused_by_both_names(
    first: Defense, second: Defense, remedy: str, between: tuple[Defense, ...]
) -> None:
    message = refusal(first, *between, second)
    assert message.endswith(remedy)
    if between != (Mixup(alpha=0.5),) or CUSTOM not in (first, second):
        assert first.name in message
        assert second.name in message


@pytest.mark.parametrize(
    "parts",
    [
        (MIXED, SMOOTHED),
        (Selena(), HAMP(gamma=0.5)),
        (DMP(), SMOOTHED),
        (DMP(temperature=2), RELAXED),
        (DMP(), Distillation()),
        (DMP(), SMOOTHED, RELAXED, MemGuard(budget=1)),
        (Mixup(alpha=1), DMP()),
        (EarlyStopping(fraction=0.5), MIXED),
        (SMOOTHED, Mixup(alpha=1), RELAXED, ConfidencePenalty(beta=0.1)),
        (Undefended(), CUSTOM),
        (CUSTOM, Undefended()),
        (Mixup(alpha=1), HAMP(gamma=0.5)),
    ],
    ids=lambda parts: "+".join(part.name for part in parts),
)
def test_what_each_leaves_to_the_others_builds(parts: tuple[Defense, ...]) -> None:
    assert Composed(parts).parts == parts


def test_the_remedy_is_one() -> None:
    """Whatever order is refused, the order that the line asks for is not."""
    for first, second, remedy in UNDONE:
        if remedy.startswith("write"):
            assert Composed((second, first)).parts == (second, first)


class _Relabeled(Defense):
    name = "relabeled"

    def training_set(self, context: object, inputs: Mapping[str, Any], rows: TrainingSet) -> TrainingSet:
        return rows


class _Remade(_Relabeled):
    """A third party's that makes the set anew and says so."""

    name = "remade"
    sole = frozenset({"training_set"})


def test_a_third_partys_defenses_are_told_by_the_hooks_that_they_have() -> None:
    assert refusal(_Relabeled(), _Remade()).startswith("defenses relabeled and remade: remade makes the training set")
    assert Composed((_Remade(), _Relabeled()))
    assert Composed((_Relabeled(), SMOOTHED))


def test_only_one_part_may_change_the_answers() -> None:
    """Whether or not it says that it is the only one: the other's answers would never be given."""
    for other in (HAMP(gamma=0.5), MemGuard(budget=1)):
        assert refusal(Doubled(), Mixup(alpha=1), other) == (
            f"defenses doubled and {other.name} both replace 'release' and cannot be combined: keep one"
        )
        assert refusal(other, Doubled()).startswith(f"defenses {other.name} and doubled both replace 'release'")
