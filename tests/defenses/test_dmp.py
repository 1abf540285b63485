"""DMP: who is trained on, with which labels, and that members meet the student through the teacher alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from raymia.defenses import DMP, build_defense
from raymia.diffusion.synthesis import Synthesis
from raymia.errors import InputError
from raymia.metrics.populations import parts
from raymia.recipes.blueprint import synthetic_sets
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, make
from raymia.records import Records
from raymia.records.plan import Exposure, Role
from raymia.training.defense import Context, TrainingSet
from tests.recipes.conftest import CountingStore, space_of, study_of
from tests.training.conftest import batch_of, cross_entropy, run_by_hand

MEMBERS = 6

# Surest first: the second, the fourth, the first, the third (uniform).
LOGITS = np.array([[1.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 4.0]], dtype=np.float32)


@dataclass(frozen=True)
class Teacher:
    """Knows the images by their first pixel."""

    def logits(self, inputs: Any) -> NDArray[np.float32]:
        numbers = inputs[:, 0, 0, 0] if isinstance(inputs, np.ndarray) else inputs.take(np.arange(4))[:, 0, 0, 0]
        return LOGITS[numbers]


@dataclass(frozen=True)
class Stored:
    """Images that need not be in memory."""

    images: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def take(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.images[numbers]


def numbered(count: int) -> NDArray[np.uint8]:
    return np.repeat(np.arange(count, dtype=np.uint8), 4).reshape(count, 2, 2, 1)


def context(reserve: int = 4) -> Context:
    positions, others = np.arange(MEMBERS) + 100, np.arange(reserve) + 200
    return Context(
        positions, others, 3, 5, lambda name, positions, defenses: (name, list(positions), defenses), _images
    )


def _images(synthesis: Synthesis) -> Any:
    return synthesis


def student_rows(defense: DMP) -> TrainingSet:
    """What is trained on, from four records; the members have other pixels and labels."""
    members = TrainingSet(np.full((MEMBERS, 2, 2, 1), 99, dtype=np.uint8), np.full(MEMBERS, 2))
    others = TrainingSet(numbered(4), np.full(4, 2)) if defense.source == "reserve" else _Generated()
    return defense.training_set(context(), {"teacher": Teacher(), defense.source: others, "images": others}, members)


class _Generated:
    inputs = Stored(numbered(4))


def images_of(rows: TrainingSet) -> list[int]:
    inputs = rows.inputs if isinstance(rows.inputs, np.ndarray) else rows.inputs.take(np.arange(len(rows)))
    return [int(image[0, 0, 0]) for image in inputs]


@pytest.mark.parametrize("source", ["reserve", "generated"])
@pytest.mark.parametrize(("keep", "kept"), [(1.0, [0, 1, 2, 3]), (0.75, [0, 1, 3]), (0.5, [1, 3]), (0.01, [1, 3])])
def test_the_records_that_the_teacher_is_surest_of_are_trained_on(source: str, keep: float, kept: list[int]) -> None:
    rows = student_rows(DMP(source=source, keep=keep))  # type: ignore[arg-type]
    assert images_of(rows) == kept
    assert isinstance(rows.inputs, np.ndarray) == (source == "reserve")
    assert rows.labels.tolist() == LOGITS[kept].argmax(axis=1).tolist()  # the reserve's own labels are not used
    assert rows.targets is not None
    exponentials = np.exp(LOGITS[kept].astype(np.float64))
    np.testing.assert_allclose(rows.targets, exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-5)


def test_targets_are_softened_by_the_temperature() -> None:
    targets = student_rows(DMP(temperature=4.0)).targets
    assert targets is not None
    np.testing.assert_allclose(targets[3], np.exp([0, 0, 1]) / np.exp([0, 0, 1]).sum(), rtol=1e-5)


def test_no_member_is_met_directly() -> None:
    for defense in (DMP(), DMP(source="generated")):
        assert (defense.exposure(context()) == Exposure.INDIRECT).all()
        assert not {99} & set(images_of(student_rows(defense)))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_is_the_divergence_at_the_temperature(temperature: float) -> None:
    """T² KL: its slope by the student's logits is T (p_student - p_teacher)."""
    logits, taught = np.array([[2.0, -1.0, 0.5]]), np.array([[0.2, 0.5, 0.3]])
    run = run_by_hand(DMP(temperature=temperature))
    batch = batch_of(logits, [1])
    batch.targets.copy_(batch.targets.new_tensor(taught))
    losses = run.losses(batch)
    log_p = np.stack([-cross_entropy(logits / temperature, [label]) for label in range(3)], axis=1)
    expected = -(temperature**2) * (taught * log_p).sum()
    assert losses.total.item() == pytest.approx(expected, rel=1e-5)
    assert losses.terms["ce"].tolist() == pytest.approx([expected], rel=1e-5)
    losses.total.backward()
    [bias] = run.model.parameters()
    assert bias.grad is not None
    np.testing.assert_allclose(bias.grad.numpy(), (temperature * (np.exp(log_p) - taught))[0], rtol=1e-4, atol=1e-6)


def test_only_a_reserve_is_carved_that_is_wanted() -> None:
    assert DMP().needs_reserve
    assert not DMP(source="generated").needs_reserve
    assert space_of({"dmp": {"keep": 0.5}}).needs_reserve
    assert not space_of({"dmp": {"source": "generated"}}).needs_reserve
    assert space_of({"dmp": {"source": ["generated", "reserve"]}}).needs_reserve


def test_what_is_asked_for_first() -> None:
    teacher = ("teacher", [100, 101, 102, 103, 104, 105], ())
    assert DMP().requires(context()) == {"teacher": teacher}
    # The very images of diffusion_mixup at its defaults.
    assert DMP(source="generated").requires(context(0)) == {"teacher": teacher, "images": Synthesis(None, 0.85)}
    asked = DMP(source="generated", threshold=0.0, per_class=7).requires(context(0))
    assert asked["images"] == Synthesis(7, 0.0)
    with pytest.raises(InputError, match=r"^dmp: needs a reserve of records"):
        DMP().requires(context(0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "internet"}, "dmp.source: "),
        ({"keep": 0}, "dmp.keep: input should be greater than 0, got 0"),
        ({"keep": 1.5}, "dmp.keep: "),
        ({"temperature": 0}, "dmp.temperature: "),
        ({"per_class": 10}, "threshold and per_class are of generated images; leave them out, or set source"),
        ({"threshold": 0.0}, "threshold and per_class are of generated images; leave them out, or set source"),
    ],
)
def test_bad_hyperparameters_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_defense("dmp", given)
    assert "\n" not in str(caught.value)


def test_the_whole_chain_on_digits_with_a_reserve(digits: Records, store: CountingStore) -> None:
    blueprint, [_, setting] = study_of(digits, {"dmp": {"keep": 0.5}}, plan__targets=1)
    plan = blueprint.plan(0)
    result = blueprint.result(setting)
    bench = Bench(digits, store)
    make(result, bench)
    assert set(result.open(store).pooled) == {"loss", "entropy", "loss/indirect", "entropy/indirect"}

    student = result.targets[0].signals.model
    assert isinstance(student, ModelRecipe)
    assert student.reserve.tolist() == plan[Role.RESERVE].tolist()
    [teacher] = student.requires()
    assert isinstance(teacher, ModelRecipe)
    assert teacher.positions.tolist() == plan[Role.TARGET_IN].tolist()

    reserve = TrainingSet(digits.inputs[student.reserve], digits.labels[student.reserve])
    opened = {"dmp/teacher": teacher.open(store, bench.device), "dmp/reserve": reserve}
    rows = student._training_set(bench, opened)
    assert isinstance(rows.inputs, np.ndarray)
    assert len(rows) == len(student.reserve) // 2
    trained_on = {image.tobytes() for image in rows.inputs}
    assert trained_on <= {image.tobytes() for image in digits.inputs[plan[Role.RESERVE]]}
    assert not trained_on & {image.tobytes() for image in digits.inputs[plan[Role.TARGET_IN]]}

    # The reserve is part of what the student is made from, and not of its teacher.
    smaller = ModelRecipe(
        student.ground, student.defense, student.positions, student.reserve[1:], student.stream, student.snapshots
    )
    assert smaller.key != student.key
    assert [part.key for part in smaller.requires()] == [teacher.key]


def test_generated_images_bring_their_generator_and_its_attacks(digits: Records) -> None:
    small: dict[str, Any] = {"plan__targets": 1, "diffusion__batch_size": 10}
    blueprint, [_, setting] = study_of(digits, {"dmp": {"source": "generated"}}, **small)
    assert not blueprint.ground.config.plan.reserve
    result = blueprint.result(setting)
    student = result.targets[0].signals.model
    [images] = synthetic_sets(student)
    assert images.generator.positions.tolist() == student.positions.tolist()
    assert "generator" in {parts(one.measure)[1] for one in result.targets[0].scores}
    _, [_, mixed] = study_of(digits, {"diffusion_mixup": {"subset": 0.1}}, **small)
    assert [one.key for one in synthetic_sets(blueprint.result(mixed).targets[0].signals.model)] == [images.key]
