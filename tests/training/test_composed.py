"""Several defenses as one: the order of hooks, who may replace what, whose artifacts are whose."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raymia.defenses import EarlyStopping, LabelSmoothing, Mixup, RelaxLoss, Undefended
from raymia.errors import InputError
from raymia.models import Classifier
from raymia.records.plan import Exposure
from raymia.training.defense import Batch, Composed, Context, Defense, Losses, TrainingSet
from raymia.training.run import Run
from tests.training.conftest import Doubled, a_context, batch_of, fit, image_rows, run_by_hand, small_config

CALLS: list[str] = []


class _Spy(Defense):
    """Writes down each hook's call, and what it wraps."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def requires(self, context: Context) -> dict[str, Any]:
        return {"teacher": f"recipe of {self.name}"}

    def training_set(self, context: Context, inputs: Mapping[str, Any], rows: TrainingSet) -> TrainingSet:
        CALLS.append(f"{self.name}.training_set {dict(inputs)}")
        return rows

    def prepare(self, run: Run) -> None:
        CALLS.append(f"{self.name}.prepare")

    def batch(self, run: Run, batch: Batch) -> Batch:
        CALLS.append(f"{self.name}.batch")
        return batch

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        CALLS.append(f"{self.name}.losses(")
        losses = inner()
        CALLS.append(f"){self.name}")
        return losses

    def update(self, run: Run, batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
        CALLS.append(f"{self.name}.update(")
        loss = inner()
        CALLS.append(f"){self.name}")
        return loss


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


def test_hooks_run_in_the_order_written_and_the_last_is_outermost() -> None:
    run = run_by_hand(_Spy("a"), _Spy("b"))
    batch = batch_of(np.eye(3), [0, 1, 2])
    run.defense.batch(run, batch)
    run.step(batch, 3)
    expected = [
        *("a.prepare", "b.prepare", "a.batch", "b.batch"),
        *("b.update(", "a.update(", "b.losses(", "a.losses(", ")a", ")b", ")a", ")b"),
    ]
    assert expected == CALLS


def test_each_part_is_handed_its_own_artifacts() -> None:
    defense = Composed((_Spy("a"), _Spy("ab")))
    assert defense.requires(a_context()) == {"a/teacher": "recipe of a", "ab/teacher": "recipe of ab"}
    defense.training_set(a_context(), {"a/teacher": 1, "ab/teacher": 2}, image_rows(4))
    assert CALLS == ["a.training_set {'teacher': 1}", "ab.training_set {'teacher': 2}"]


def test_training_sets_build_on_each_other() -> None:
    rows = image_rows(6)
    smoothed = Composed((LabelSmoothing(epsilon=0.2), LabelSmoothing(epsilon=0.5))).training_set(a_context(), {}, rows)
    assert smoothed.targets is not None
    # 0.8 and 0.1, 0.1 pulled toward even once more: 0.25 a part plus 0.25 of what was there.
    expected = np.where(np.eye(3)[rows.labels] == 1, 0.25 * 0.8 + 0.25, 0.25 * 0.1 + 0.25)
    np.testing.assert_allclose(smoothed.targets, expected, rtol=1e-6)


def test_two_defenses_that_replace_the_same_hook_are_refused_by_name() -> None:
    class Other(Defense):
        name: ClassVar[str] = "other"
        sole: ClassVar[frozenset[str]] = frozenset({"objective"})

    with pytest.raises(InputError, match=r"defenses relaxloss and other both replace 'objective'.*keep one"):
        Composed((RelaxLoss(alpha=1), Mixup(alpha=1), Other()))
    Composed((RelaxLoss(alpha=1), Mixup(alpha=1), LabelSmoothing(epsilon=0.1)))


def test_the_earliest_epoch_that_any_part_asks_for_is_released() -> None:
    assert Composed((EarlyStopping(fraction=0.5), Mixup(alpha=1), EarlyStopping(fraction=0.25))).select(200) == 50
    assert Composed((Undefended(),)).select(200) == 200
    assert Composed(()).select(200) == 200


def test_the_part_that_changes_the_answers_gives_them_wherever_it_stands() -> None:
    inputs = torch.tensor([[1.0, 2.0]])
    model = nn.Identity()
    assert Composed((Mixup(alpha=1),)).release(model, inputs, {}).tolist() == [[1, 2]]
    assert Composed((Doubled(), Mixup(alpha=1))).release(model, inputs, {}).tolist() == [[2, 4]]
    assert Composed((Mixup(alpha=1), Doubled())).release(model, inputs, {}).tolist() == [[2, 4]]


class _Half(Defense):
    """Trains on every `step`-th record, and meets the others only indirectly."""

    name = "half"

    def __init__(self, step: int) -> None:
        self.step = step

    def exposure(self, context: Context) -> NDArray[np.int8]:
        direct = np.arange(len(context.positions)) % self.step == 0
        return np.where(direct, Exposure.DIRECT, Exposure.INDIRECT).astype(np.int8)


def test_a_records_exposure_is_the_least_that_any_part_leaves_it() -> None:
    nobody = np.zeros(0, dtype=np.int64)
    context = Context(np.arange(7) + 10, nobody, 3, 0, lambda name, positions, defenses: None, lambda wanted: None)
    assert Composed(()).exposure(context).tolist() == [2] * 7
    assert Composed((Mixup(alpha=1),)).exposure(context).tolist() == [2] * 7
    assert Composed((_Half(2), Mixup(alpha=1), _Half(3))).exposure(context).tolist() == [2, 1, 1, 1, 1, 1, 2]


class _Wider(Defense):
    """Puts a layer of its own before the model's."""

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def architecture(self, model: Classifier) -> Classifier:
        model.net = nn.Sequential(OrderedDict({self.name: nn.Identity(), "inner": model.net}))
        return model


def test_changes_of_the_architecture_build_on_each_other() -> None:
    model = Composed((_Wider("a"), Mixup(alpha=1), _Wider("b"))).architecture(Classifier(nn.Linear(2, 3), (2,), 3))
    assert list(model.state_dict())[2:] == ["net.inner.inner.weight", "net.inner.inner.bias"]
    assert [name for name, _ in model.net.named_children()] == ["b", "inner"]


def test_a_changed_architecture_is_trained_and_kept() -> None:
    weights = fit(image_rows(), small_config(epochs=1), _Wider("a")).weights(1)
    assert all(name.startswith("net.inner.") for name in weights if name not in ("mean", "std"))


def test_penalties_are_added_to_the_objective() -> None:
    losses = Losses({}, torch.tensor(1.0), torch.zeros(1, 3))
    assert losses.total.item() == 1
    losses.penalties |= {"a": torch.tensor(0.5), "b": torch.tensor(2.0)}
    assert losses.total.item() == 3.5
