"""Small real models for the engine's tests, and defenses that misbehave on purpose."""

import io
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import ray
import torch

from raymia.config import EngineConfig, ModelConfig, StudyConfig, TrainingConfig
from raymia.recipes.ground import Ground
from raymia.recipes.model import ModelRecipe
from raymia.records import Records, load_records
from raymia.store import Store
from raymia.training.defense import Batch, Composed, Defense, Stage, TrainingSet

EPOCHS = 4


def digits() -> Records:
    """The first 200 digits."""
    return load_records("digits", limit=200)


def model(
    *defenses: Defense,
    workers: int = 1,
    threads: int = 1,
    rate: float = 0.1,
    stream: str = "target",
    epochs: int = EPOCHS,
) -> ModelRecipe:
    """A perceptron, without batch normalization, trained on 53 digits in batches of 16 (the last one has 5)."""
    records = digits()
    config = StudyConfig(
        model=ModelConfig(name="mlp", options={"hidden": (8,)}),
        training=TrainingConfig(epochs=EPOCHS, batch_size=16, learning_rate=0.1, precision="fp32", checkpoint_every=1),
        engine=EngineConfig(workers_per_model=workers, threads_per_worker=threads),
    )
    ground = Ground(config, records.fingerprint, len(records), (1, 8, 8), 10, "", "cpu")
    positions = np.arange(53, dtype=np.int64)
    return ModelRecipe(
        ground, Composed(defenses), positions, np.zeros(0, dtype=np.int64), (stream, 0), frozenset({EPOCHS})
    )


def weights(recipe: ModelRecipe, store: Store) -> dict[str, torch.Tensor]:
    """A built model's weights, as they lie in the store."""
    payload, _ = store.read(recipe.artifacts[-1])
    state: dict[str, torch.Tensor] = torch.load(io.BytesIO(payload), weights_only=True)
    return state


def seen(folder: str) -> list[str]:
    """The lines that the tasks of a test left behind, in the order of writing."""
    path = Path(folder, "log")
    return path.read_text().splitlines() if path.exists() else []


def note(folder: str, line: str) -> None:
    """Leave a line; whole lines of several processes do not mix."""
    with Path(folder, "log").open("a") as log:
        log.write(line + "\n")


def once(folder: str, name: str) -> bool:
    """Whether this is the first time that any process asks."""
    try:
        os.close(os.open(Path(folder, name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@dataclass(frozen=True)
class KilledOnce(Defense):
    """Its process is killed at the start of the third epoch, the first time; notes which epochs each rank starts."""

    folder: str

    name: ClassVar[str] = "killed_once"
    stages: ClassVar[dict[str, Stage]] = {"folder": Stage.TRAIN}

    def batch(self, run: Any, batch: Batch) -> Batch:
        if once(self.folder, f"{os.getpid()}-{run.epoch}"):
            note(self.folder, f"{run.group.rank} {run.epoch} {os.getpid()}")
        if run.epoch == 2 and run.group.rank == run.group.world - 1 and once(self.folder, "killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        return batch


@dataclass(frozen=True)
class Scribbling(Defense):
    """Overwrites whatever it is handed, in place."""

    name: ClassVar[str] = "scribbling"

    def training_set(self, context: Any, inputs: Any, rows: TrainingSet) -> TrainingSet:
        rows.inputs[:] = 255
        rows.labels[:] = 0
        return rows

    def batch(self, run: Any, batch: Batch) -> Batch:
        batch.inputs.fill_(0.5)
        batch.labels.fill_(1)
        return batch


@dataclass(frozen=True)
class Exploding(Defense):
    """Makes the loss infinite in the second epoch."""

    folder: str

    name: ClassVar[str] = "exploding"
    stages: ClassVar[dict[str, Stage]] = {"folder": Stage.TRAIN}

    def batch(self, run: Any, batch: Batch) -> Batch:
        note(self.folder, f"{run.group.rank} {run.epoch}")
        return Batch(batch.inputs * torch.inf if run.epoch == 1 else batch.inputs, batch.labels, batch.targets)


@dataclass(frozen=True)
class Reserving(Defense):
    """Notes the CPUs that Ray set aside for this training, and the threads it uses."""

    folder: str

    name: ClassVar[str] = "reserving"
    stages: ClassVar[dict[str, Stage]] = {"folder": Stage.TRAIN}

    def prepare(self, run: Any) -> None:
        cpus = ray.get_runtime_context().get_assigned_resources()["CPU"]
        note(self.folder, f"{cpus:g} CPUs, {torch.get_num_threads()} threads")
