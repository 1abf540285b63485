"""The papers' harder shapes of defense, written as a third party would: none needs a change to the loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import raymia.defenses
from raymia.defenses import Mixup
from raymia.recipes.model import ModelRecipe, TrainedModel
from raymia.recipes.recipe import Bench, make
from raymia.recipes.signals import unpack_arrays
from raymia.records import Records
from raymia.records.plan import Exposure
from raymia.training.defense import Batch, Composed, Context, Defense, Losses, Stage, TrainingSet
from raymia.training.run import Run
from tests.recipes.conftest import CountingStore, study_of
from tests.training.conftest import batch_of, equal_bits, fit, image_rows, run_by_hand, small_config


@dataclass(frozen=True)
class Distilled(Defense):
    """A teacher on all members and an outsider first, then a student on every other member, with their answers."""

    temperature: float = 1.0

    name: ClassVar[str] = "distilled"
    stages: ClassVar[Mapping[str, Stage]] = {"temperature": Stage.DATA}
    needs_reserve = True

    def requires(self, context: Context) -> dict[str, Any]:
        return {
            "teacher": context.model("teacher", context.positions, ()),
            "outsider": context.model("outsider", context.reserve, (Mixup(alpha=1.0),)),
        }

    def exposure(self, context: Context) -> NDArray[np.int8]:
        direct = np.arange(len(context.positions)) % 2 == 0
        return np.where(direct, Exposure.DIRECT, Exposure.INDIRECT).astype(np.int8)

    def training_set(self, context: Context, inputs: Mapping[str, TrainedModel], rows: TrainingSet) -> TrainingSet:
        rows = TrainingSet(rows.inputs[::2], rows.labels[::2])
        logits = inputs["teacher"].logits(rows.inputs) + inputs["outsider"].logits(rows.inputs)
        targets = torch.softmax(torch.from_numpy(logits) / self.temperature, dim=1)
        return TrainingSet(rows.inputs, rows.labels, targets.numpy())


@dataclass(frozen=True)
class Awp(Defense):
    """Adversarial weight perturbation (Wu, Xia, Wang 2020): the step's gradient is taken uphill of the weights."""

    gamma: float

    name: ClassVar[str] = "awp"
    stages: ClassVar[Mapping[str, Stage]] = {"gamma": Stage.TRAIN}
    sole: ClassVar[frozenset[str]] = frozenset({"update"})

    def update(self, run: Run, batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
        parameters = list(run.model.parameters())
        before = [parameter.detach().clone() for parameter in parameters]
        gradients = torch.autograd.grad(run.losses(batch).total, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                scale = self.gamma * parameter.norm() / (gradient.norm() + 1e-12)
                parameter.add_(scale * gradient)
        total = run.losses(batch).total
        run.optimizer.zero_grad(set_to_none=True)
        total.backward()
        with torch.no_grad():
            for parameter, kept in zip(parameters, before, strict=True):
                parameter.copy_(kept)
        run.optimizer.step()
        return total.detach()


@dataclass(frozen=True)
class DeMem(Defense):
    """Luo & Li 2025 (arXiv 2412.05767): a penalty on the unbiased variance of the per-sample losses."""

    weight: float

    name: ClassVar[str] = "demem"
    stages: ClassVar[Mapping[str, Stage]] = {"weight": Stage.TRAIN}

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        losses = inner()
        losses.penalties["demem"] = self.weight * losses.terms["ce"].var(unbiased=True)
        return losses


def test_a_penalty_on_the_variance_matches_the_worked_example() -> None:
    """l = (0, 1, 2, 3), λ = 0.5: 1.5 + 0.5 · 1.66667, and the weight of each sample in the gradient."""
    per_sample = torch.tensor([0.0, 1.0, 2.0, 3.0], requires_grad=True)
    run = run_by_hand()
    batch = batch_of(np.eye(3), [0, 1, 2])
    plain = Losses({"ce": per_sample}, per_sample.mean(), torch.zeros(4, 3))
    losses = DeMem(weight=0.5).losses(run, batch, lambda: plain)
    assert losses.total.item() == pytest.approx(2.33333, abs=1e-5)
    losses.total.backward()
    assert per_sample.grad is not None
    assert per_sample.grad.tolist() == pytest.approx([-0.25, 0.08333, 0.41667, 0.75], abs=1e-5)


def test_a_penalty_reaches_the_step() -> None:
    inputs = np.random.default_rng(0).normal(size=(4, 3)) * 3
    batch = batch_of(inputs, [0, 1, 2, 0])
    run = run_by_hand(DeMem(weight=0.5))
    run.step(batch, 4)
    [bias] = run.model.parameters()
    free = torch.zeros(3, requires_grad=True)
    losses = torch.nn.functional.cross_entropy(batch.inputs + free, batch.labels, reduction="none")
    (losses.mean() + 0.5 * losses.var()).backward()
    torch.testing.assert_close(bias.grad, free.grad)


def test_a_step_can_be_taken_from_elsewhere() -> None:
    """The gradient uphill, applied to the weights as they were: worked out with autograd on the side."""
    batch = batch_of(np.random.default_rng(1).normal(size=(4, 3)), [0, 1, 2, 0])
    run = run_by_hand(Awp(gamma=0.5))
    [bias] = run.model.parameters()
    start = torch.tensor([0.3, -0.2, 0.1])
    bias.data.copy_(start)

    def gradient(at: Tensor) -> Tensor:
        free = at.clone().requires_grad_()
        torch.nn.functional.cross_entropy(batch.inputs + free, batch.labels).backward()
        assert free.grad is not None
        return free.grad

    down = gradient(start)
    uphill = start + 0.5 * start.norm() / down.norm() * down
    run.step(batch, 4)
    torch.testing.assert_close(bias.data, start - gradient(uphill))


def test_they_compose_and_train_in_the_loop_as_it_is() -> None:
    config = small_config(epochs=8, augmentation="flip")
    plain = fit(image_rows(), config)
    together = fit(image_rows(), config, Mixup(alpha=0.3), DeMem(weight=0.5), Awp(gamma=0.01))
    assert together.histories[8][-1] < together.histories[8][0]
    alone = {name: fit(image_rows(), config, one) for name, one in {"awp": Awp(0.01), "demem": DeMem(0.5)}.items()}
    for kept in (together, *alone.values()):
        assert list(kept.weights(8)) == list(plain.weights(8))
        assert not equal_bits(kept.weights(8), plain.weights(8))
    for nothing in (Awp(gamma=0.0), DeMem(weight=0.0)):
        same = fit(image_rows(), config.model_copy(update={"augmentation": "none"}), nothing)
        bare = fit(image_rows(), config.model_copy(update={"augmentation": "none"}))
        if isinstance(nothing, DeMem):
            assert equal_bits(same.weights(8), bare.weights(8))
        else:
            assert same.histories[8] == pytest.approx(bare.histories[8], rel=1e-4)


@pytest.fixture
def distilled(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("distilled", f"{__name__}:Distilled", "raymia.defenses")
    monkeypatch.setattr(raymia.defenses, "entry_points", lambda group: [point] if group == point.group else [])


@pytest.mark.usefixtures("distilled")
def test_a_defense_with_a_teacher_works_from_the_space_to_the_scores(digits: Records, store: CountingStore) -> None:
    blueprint, [_, setting] = study_of(digits, {"distilled": {"temperature": 2.0}}, plan__targets=1)
    assert blueprint.ground.config.plan.reserve
    result = blueprint.result(setting)
    make(result, Bench(digits, store))
    measured = result.open(store)
    assert set(measured.pooled) == {
        f"{attack}{population}" for attack in ("loss", "entropy") for population in ("", "/direct", "/indirect")
    }

    student = result.targets[0].scores[0].target.model
    assert isinstance(student, ModelRecipe)
    teacher, outsider = student.requires()
    written = [name for name in store.written if name.startswith("models/")]
    assert written.index(teacher.artifacts[0]) < written.index(student.artifacts[0])
    assert written.index(outsider.artifacts[0]) < written.index(student.artifacts[0])
    # Target and shadow, each with a teacher and an outsider of its own.
    assert len(written) == len(set(written)) == 6

    # Members that only the teacher saw are a population of their own, and no non-members of the student's.
    apart = {"loss": student.positions, "loss/direct": student.positions[::2], "loss/indirect": student.positions[1::2]}
    for scores in result.targets[0].scores:
        if scores.measure in apart:
            values, member = scores.scores(store)
            kept = unpack_arrays(store.read(scores.artifacts[0])[0])["positions"]
            assert kept[member].tolist() == apart[scores.measure].tolist()
            assert not set(kept[~member]) & set(student.positions)
            assert len(values) - member.sum() == 40


@pytest.mark.usefixtures("distilled")
def test_a_student_learns_what_its_teachers_answer(digits: Records, store: CountingStore) -> None:
    blueprint, [_, setting] = study_of(digits, {"distilled": {"temperature": 2.0}}, plan__targets=1)
    bench = Bench(digits, store)
    student = blueprint.result(setting).targets[0].scores[0].target.model
    assert isinstance(student, ModelRecipe)
    make(student, bench)
    teacher, outsider = student.requires()
    assert isinstance(teacher, ModelRecipe)
    assert isinstance(outsider, ModelRecipe)
    assert outsider.defense.parts == (Mixup(alpha=1.0),)
    assert not set(outsider.positions) & set(student.positions)
    np.testing.assert_array_equal(teacher.positions, student.positions)

    seen = student.positions[::2]
    rows = TrainingSet(digits.inputs[seen], digits.labels[seen])
    opened = [one.open(bench.store, bench.device) for one in (teacher, outsider)]
    logits = opened[0].logits(rows.inputs) + opened[1].logits(rows.inputs)
    taught = TrainingSet(rows.inputs, rows.labels, torch.softmax(torch.from_numpy(logits) / 2, dim=1).numpy())

    @dataclass(frozen=True)
    class Taught(Defense):
        name: ClassVar[str] = "taught"

        def training_set(self, context: Context, inputs: Mapping[str, Any], rows: TrainingSet) -> TrainingSet:
            return taught

    by_hand = ModelRecipe(
        student.ground, Composed((Taught(),)), student.positions, student.reserve, student.stream, student.snapshots
    )
    make(by_hand, bench)
    learned = [one.open(bench.store, bench.device).model.state_dict() for one in (by_hand, student)]
    assert equal_bits(*learned)


@pytest.mark.usefixtures("distilled")
def test_a_changed_teacher_is_another_student(digits: Records, store: CountingStore) -> None:
    blueprint, [_, warm, cool] = study_of(digits, {"distilled": {"temperature": [2.0, 1.0]}}, plan__targets=1)
    students = [blueprint.result(setting).targets[0].scores[0].target.model for setting in (warm, cool)]
    assert students[0].key != students[1].key
    # The temperature is the student's: both are taught by the same teachers.
    assert [one.key for one in students[0].requires()] == [one.key for one in students[1].requires()]
    make(students[0], Bench(digits, store))
    store.written.clear()
    make(students[1], Bench(digits, store))
    assert [name for name in store.written if name.startswith("models/")] == list(students[1].artifacts)


@pytest.mark.usefixtures("distilled")
def test_a_student_of_other_teachers_is_another_student(digits: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a teacher is made by is no hyperparameter of the student's, and yet part of it."""

    def keys() -> dict[str, str]:
        blueprint, settings = study_of(digits, {"distilled": {"temperature": 2.0}}, plan__targets=1)
        plain, student = (blueprint.result(setting).targets[0].scores[0].target.model for setting in settings)
        teacher, outsider = student.requires()
        return {"plain": plain.key, "student": student.key, "teacher": teacher.key, "outsider": outsider.key}

    before = keys()
    monkeypatch.setattr(Mixup, "version", 2)  # the outsider trains with it
    after = keys()
    assert {name for name in after if after[name] != before[name]} == {"student", "outsider"}
