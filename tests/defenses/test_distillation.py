"""Knowledge distillation: the loss by hand, the teacher's recipe, and a student of its own."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from raymia.defenses import Distillation, build_defense
from raymia.errors import InputError
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, make
from raymia.records import Records
from raymia.records.plan import Exposure
from raymia.training.defense import Composed
from tests.recipes.conftest import CountingStore, ground_of
from tests.training.conftest import a_context, batch_of, cross_entropy, run_by_hand

LOGITS = np.array([[2.0, -1.0, 0.5], [0.3, -0.4, 1.1]])
TAUGHT = np.array([[1.0, 3.0, -2.0], [0.5, 0.1, 0.0]])
LABELS = [0, 1]
EPOCHS = 15


@dataclass(frozen=True)
class Teacher:
    """Answers the same to every batch of this size."""

    logits: NDArray[np.float64]

    def answer(self, batch: Tensor) -> Tensor:
        assert len(batch) == len(self.logits)
        return torch.from_numpy(self.logits.astype(np.float32))


def softened(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    exponentials = np.exp(logits / temperature)
    posteriors: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return posteriors


def step(weight: float, temperature: float) -> tuple[float, NDArray[np.float64]]:
    """The loss of one step, and its gradient by a bias on the student's logits."""
    run = run_by_hand(Distillation(weight=weight, temperature=temperature))
    run.inputs = {"distillation/teacher": Teacher(TAUGHT)}
    value = float(run.step(batch_of(LOGITS, LABELS), 2))
    [bias] = run.model.parameters()
    assert bias.grad is not None
    return value, bias.grad.numpy().astype(np.float64)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_the_loss_and_its_slope_are_those_of_the_formula(weight: float, temperature: float) -> None:
    value, gradient = step(weight, temperature)
    taught, learned = softened(TAUGHT, temperature), softened(LOGITS, temperature)
    divergence = (taught * (np.log(taught) - np.log(learned))).sum(axis=1).mean()
    plain = cross_entropy(LOGITS, LABELS).mean()
    assert value == pytest.approx((1 - weight) * plain + weight * temperature**2 * divergence, rel=1e-4)
    slope = (1 - weight) * (softened(LOGITS, 1) - np.eye(3)[LABELS]) + weight * temperature * (learned - taught)
    np.testing.assert_allclose(gradient, slope.mean(axis=0), rtol=1e-3, atol=1e-5)


def test_a_teacher_without_doubt_teaches_its_label() -> None:
    run = run_by_hand(Distillation(weight=1.0, temperature=1.0))
    run.inputs = {"distillation/teacher": Teacher(np.array([[500.0, 0.0, 0.0], [0.0, 500.0, 0.0]]))}
    value = run.losses(batch_of(LOGITS, LABELS)).total.item()
    assert value == pytest.approx(cross_entropy(LOGITS, LABELS).mean(), rel=1e-5)


def test_members_are_all_met_directly() -> None:
    assert (Distillation().exposure(a_context()) == Exposure.DIRECT).all()


def student(digits: Records, **hyperparameters: Any) -> ModelRecipe:
    ground = ground_of(digits, {"training.epochs": EPOCHS})
    nobody = np.zeros(0, dtype=np.int64)
    defense = Composed((Distillation(**hyperparameters),))
    return ModelRecipe(ground, defense, np.arange(40), nobody, ("target", 0), frozenset({EPOCHS}))


def test_a_student_trains_with_a_teacher_of_the_same_members(digits: Records, store: CountingStore) -> None:
    one = student(digits)
    [teacher] = one.requires()
    assert isinstance(teacher, ModelRecipe)
    assert teacher.positions.tolist() == one.positions.tolist()
    assert teacher.defense.parts == ()
    assert teacher.seed != one.seed
    bench = Bench(digits, store)
    make(one, bench)
    assert [name for name in store.written if name.startswith("models/")] == [*teacher.artifacts, *one.artifacts]

    # The whole weight on the teacher: the student answers more like it than a plain model does.
    pulled, plain = student(digits, weight=1.0, temperature=4.0), student(digits, weight=0.0)
    assert [part.key for part in pulled.requires()] == [teacher.key]
    make(pulled, bench)
    make(plain, bench)
    taught, near, far = (recipe.answer(bench, EPOCHS, np.arange(40)) for recipe in (teacher, pulled, plain))

    def apart(answers: NDArray[np.float32]) -> float:
        one, other = (softened(logits.reshape(40, 10).astype(np.float64), 4.0) for logits in (taught, answers))
        return float(np.abs(one - other).sum(axis=1).mean())

    assert apart(near) < 0.8 * apart(far)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weight": 1.1}, "distillation.weight: input should be less than or equal to 1, got 1.1"),
        ({"temperature": 0}, "distillation.temperature: input should be greater than 0, got 0"),
    ],
)
def test_bad_hyperparameters_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build_defense("distillation", given)
    assert str(caught.value) == message
