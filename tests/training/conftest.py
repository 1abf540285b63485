"""Small trainings: a few digits' worth of images, a keeper in memory, and one run by hand."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raymia.config import TrainingConfig
from raymia.models import Classifier, build_model
from raymia.training.defense import Batch, Composed, Context, Defense, TrainingSet
from raymia.training.loop import Plan, State, train
from raymia.training.rows import Fetch, in_order
from raymia.training.run import Alone, Group, Run, shuffled_batches

CPU = torch.device("cpu")
CLASSES = 3


class InterruptedRunError(Exception):
    """What stands for a crash."""


@dataclass
class MemoryKeeper:
    """Keeps bytes, as a store does. stop_at: crash once so many epochs are done."""

    stop_at: int | None = None
    checkpoint: bytes | None = None
    snapshots: dict[int, bytes] = field(default_factory=dict)
    histories: dict[int, list[float]] = field(default_factory=dict)
    saved: list[int] = field(default_factory=list)
    reported: list[int] = field(default_factory=list)

    def load(self) -> State | None:
        if self.checkpoint is None:
            return None
        state: State = torch.load(io.BytesIO(self.checkpoint), weights_only=True)
        return state

    def save(self, state: State) -> None:
        self.checkpoint = packed(state)
        self.saved.append(state["epoch"])

    def snapshot(self, epoch: int, weights: State, history: list[float]) -> None:
        self.snapshots[epoch] = packed(weights)
        self.histories[epoch] = list(history)

    def report(self, epoch: int) -> None:
        self.reported.append(epoch)
        if epoch == self.stop_at:
            raise InterruptedRunError

    def weights(self, epoch: int) -> State:
        state: State = torch.load(io.BytesIO(self.snapshots[epoch]), weights_only=True)
        return state


def packed(state: State) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def equal_bits(one: State, other: State) -> bool:
    """Whether two models hold the same bits under the same names."""
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype and one[name].numpy().tobytes() == other[name].numpy().tobytes()
        for name in one
    )


def image_rows(count: int = 22, size: int = 8, seed: int = 0) -> TrainingSet:
    """Random images uint8[count, size, size, 1]; 22 in batches of 8 leave a last batch of 6."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = rng.integers(0, 180, (count, size, size, 1)) + 25 * labels[:, None, None, None]
    return TrainingSet(images.astype(np.uint8), labels)


def images_of(rows: TrainingSet) -> NDArray[np.uint8]:
    """The images of a training set in memory."""
    assert isinstance(rows.inputs, np.ndarray)
    assert rows.inputs.dtype == np.uint8
    return rows.inputs  # type: ignore[return-value]


def feature_rows(count: int, features: int = 4) -> TrainingSet:
    """Feature vectors whose first feature is the row's number."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(count, features)).astype(np.float32)
    inputs[:, 0] = np.arange(count)
    return TrainingSet(inputs, rng.integers(0, CLASSES, count))


def small_config(**changes: Any) -> TrainingConfig:
    """Six epochs with everything moving: cosine with warm-up, momentum, weight decay."""
    values: dict[str, Any] = {
        "epochs": 6,
        "batch_size": 8,
        "learning_rate": 0.05,
        "schedule": "cosine",
        "warmup": 0.2,
        "precision": "fp32",
        "checkpoint_every": 1,
    }
    return TrainingConfig(**(values | changes))


def small_model(rows: TrainingSet) -> Callable[[], Classifier]:
    shape = rows.inputs.shape
    if len(shape) == 2:
        return lambda: build_model("mlp", (shape[1],), CLASSES, {"hidden": [5]})
    return lambda: build_model("cnn", (shape[3], shape[1], shape[2]), CLASSES, {"widths": [4, 8, 8]})


def a_context(classes: int = CLASSES) -> Context:
    """A context in which nobody has records."""
    nobody = np.zeros(0, dtype=np.int64)
    return Context(nobody, nobody, classes, 0, lambda name, positions, defenses: None, lambda wanted: None)


def fit(
    rows: TrainingSet,
    config: TrainingConfig,
    *defenses: Defense,
    snapshots: set[int] | None = None,
    keeper: MemoryKeeper | None = None,
    group: Group | None = None,
    seed: int = 5,
    fetch: Fetch = in_order,
) -> MemoryKeeper:
    """Train, and give the keeper back."""
    keeper = MemoryKeeper() if keeper is None else keeper
    wanted = frozenset({config.epochs} if snapshots is None else snapshots)
    defense = Composed(defenses)
    plan = Plan(defense.training_set(a_context(), {}, rows), CLASSES, config, defense, seed, wanted, fetch=fetch)
    train(small_model(rows), plan, keeper, group or Alone(), CPU)
    return keeper


class Linear(nn.Module):
    """Logits that are its inputs plus a bias of zeros: losses by hand."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.bias


def run_by_hand(
    *defenses: Defense, classes: int = CLASSES, epoch: int = 0, net: nn.Module | None = None, **changes: Any
) -> Run:
    """A run whose network passes its inputs on as logits, unless another is given. Plain SGD at rate 1."""
    model = Classifier(net or Linear(classes), (classes,), classes)
    values: dict[str, Any] = {"precision": "fp32", "learning_rate": 1.0}
    config = TrainingConfig(**(values | changes))
    group = Alone()
    run = Run(
        model=model,
        network=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        rows=8,
        sampler=shuffled_batches(8, 4, 0, group),
        config=config,
        defense=Composed(defenses),
        classes=classes,
        device=CPU,
        seed=0,
        group=group,
        epoch=epoch,
        rng=np.random.default_rng(0),
        inputs={},
    )
    run.defense.prepare(run)
    return run


def batch_of(inputs: Any, labels: list[int], classes: int = CLASSES) -> Batch:
    """A batch with one-hot targets."""
    values = torch.as_tensor(np.asarray(inputs, dtype=np.float32))
    index = torch.tensor(labels)
    return Batch(values, index, torch.eye(classes)[index])


def cross_entropy(logits: NDArray[np.float64], labels: list[int]) -> NDArray[np.float64]:
    """Per-sample cross entropy in nats, float64, by the textbook."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses: NDArray[np.float64] = -log_p[np.arange(len(labels)), labels]
    return losses


class Doubled(Defense):
    """Changes what the finished model answers."""

    name = "doubled"

    def release(self, model: nn.Module, inputs: Tensor, fitted: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = 2 * model(inputs)
        return logits
