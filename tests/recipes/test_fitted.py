"""What is fitted to a finished model: an artifact of its own, there before whoever asks the model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raymia.defenses import Mixup
from raymia.recipes.fitted import FittedRecipe
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, make, walk
from raymia.recipes.signals import GradientNormRecipe, SignalsRecipe
from raymia.records import Records
from raymia.training.defense import Answers, Composed, Context, Defense, Stage, TrainingSet
from tests.recipes.conftest import CountingStore, ground_of

NOBODY = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Leveled(Defense):
    """Answers as a third party's defense may: logits less the members' mean logits, times a scale."""

    scale: float = 1.0
    offset: float = 0.0

    name: ClassVar[str] = "leveled"
    stages: ClassVar[Mapping[str, Stage]] = {"scale": Stage.RELEASE, "offset": Stage.FIT}

    def fit(self, context: Context, answers: Answers) -> dict[str, Tensor]:
        return {"level": torch.from_numpy(answers(context.positions)).mean(dim=0) + self.offset}

    def release(self, model: nn.Module, inputs: Tensor, fitted: Mapping[str, Tensor]) -> Tensor:
        return self.scale * (model(inputs) - fitted["level"])


@dataclass(frozen=True)
class Taught(Defense):
    """A student of a teacher that has something fitted to it."""

    name: ClassVar[str] = "taught"

    def requires(self, context: Context) -> dict[str, Any]:
        return {"teacher": context.model("teacher", context.positions, (Leveled(),))}

    def training_set(self, context: Context, inputs: Mapping[str, Any], rows: TrainingSet) -> TrainingSet:
        logits: NDArray[np.float32] = inputs["teacher"].logits(rows.inputs)
        np.testing.assert_allclose(logits.mean(axis=0), 0, atol=1e-4)
        return TrainingSet(rows.inputs, logits.argmax(axis=1))


def model_of(digits: Records, *defenses: Defense, snapshots: tuple[int, ...] = (2,)) -> ModelRecipe:
    return ModelRecipe(
        ground_of(digits), Composed(defenses), np.arange(40), NOBODY, ("target", 0), frozenset(snapshots)
    )


def test_what_was_fitted_is_part_of_the_answers(digits: Records, bench: Bench, store: CountingStore) -> None:
    signals = SignalsRecipe(model_of(digits, Leveled(scale=2.0)), 2, np.arange(50))
    make(signals, bench)
    plain = SignalsRecipe(model_of(digits), 2, np.arange(50))
    make(plain, bench)
    assert [name.partition("/")[0] for name in store.written].count("models") == 1
    logits, expected = (one.open(store).logits_NQC[:, 0] for one in (signals, plain))
    np.testing.assert_allclose(logits, 2 * (expected - expected[:40].mean(axis=0)), rtol=1e-3, atol=1e-4)


def test_what_was_fitted_stays_when_the_release_changes_and_names_the_answers(digits: Records) -> None:
    def steps(*defenses: Defense) -> tuple[str, str, str]:
        signals = SignalsRecipe(model_of(digits, *defenses), 2, np.arange(50))
        [fitted] = [one for one in signals.requires() if isinstance(one, FittedRecipe)]
        return signals.model.key, fitted.key, signals.key

    first, scaled, offset, mixed = (
        steps(Leveled()),
        steps(Leveled(scale=2.0)),
        steps(Leveled(offset=1.0)),
        steps(Mixup(alpha=1.0), Leveled()),
    )
    assert first[:2] == scaled[:2]
    assert first[2] != scaled[2]
    assert first[0] == offset[0]
    assert len({first[1], offset[1], mixed[1]}) == len({first[2], offset[2], mixed[2]}) == 3


def test_a_model_without_such_a_defense_needs_nothing(digits: Records) -> None:
    for model in (model_of(digits), model_of(digits, Mixup(alpha=1.0))):
        assert model.answers_need(2) == ()
        assert [step.kind for step in walk([SignalsRecipe(model, 2, np.arange(5))])] == ["models", "signals"]


def test_a_teacher_has_what_it_answers_with_before_its_student_trains(digits: Records, bench: Bench) -> None:
    student = model_of(digits, Taught())
    kinds = [step.kind for step in walk([student])]
    assert kinds == ["models", "fitted", "models"]
    make(student, bench)
    assert student.answer(bench, 2, np.arange(5)).shape[0] == 5


def test_a_damaged_one_is_made_again_as_it_was(digits: Records, bench: Bench, store: CountingStore) -> None:
    signals = SignalsRecipe(model_of(digits, Leveled()), 2, np.arange(50))
    make(signals, bench)
    [fitted] = signals.model.answers_need(2)
    [name] = fitted.artifacts
    assert name.startswith("fitted/")
    before = store.read(name)[0]
    (Path(store.root) / name).write_bytes(b"?")
    store.written.clear()
    make(signals, bench)
    assert store.written == [name]
    assert store.read(name)[0] == before


def test_gradient_norms_are_of_the_model_itself(digits: Records, bench: Bench) -> None:
    """They need nothing fitted, and are the same under whatever release."""
    guarded, plain = model_of(digits, Leveled(scale=3.0)), model_of(digits)
    make(guarded, bench)
    signals = [SignalsRecipe(model, 2, np.arange(6)) for model in (guarded, plain)]
    for one in signals:
        make(GradientNormRecipe(one), bench)
    released, own = (GradientNormRecipe(one).open(bench.store) for one in signals)
    assert (own > 0).all()
    np.testing.assert_array_equal(released, own)


def test_a_fit_sees_the_epoch_it_is_of(digits: Records, bench: Bench) -> None:
    model = model_of(digits, Leveled(), snapshots=(1, 2))
    make(model, bench)
    levels = []
    for epoch in (1, 2):
        [fitted] = model.answers_need(epoch)
        make(fitted, bench)
        levels.append(fitted.open(bench.store, bench.device)["leveled"]["level"])
        bare = replace(model, defense=Composed(()))
        expected = bare.answer(bench, epoch, model.positions)[:, 0].mean(axis=0)
        np.testing.assert_allclose(levels[-1].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(levels[0], levels[1])


@pytest.mark.parametrize("parts", [(), (Mixup(alpha=1.0),)])
def test_composed_defenses_keep_what_is_fitted_by_name(parts: tuple[Defense, ...]) -> None:
    defense = Composed((*parts, Leveled(scale=2.0)))
    assert [part.name for part in defense.fitting] == ["leveled"]
    context = Context(np.arange(3), NOBODY, 2, 0, lambda *_: None, lambda wanted: None)
    logits = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]], dtype=np.float32)
    fitted = defense.fit(context, lambda positions: logits[positions])
    assert fitted["leveled"]["level"].tolist() == [3.0, 2.0]
    assert defense.release(nn.Identity(), torch.zeros(1, 2), fitted).tolist() == [[-6.0, -4.0]]
