"""Trained models: the recipe that runs the loop and keeps the model after the epochs asked for."""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raymia.config import OptionValue
from raymia.keys import array_digest, content_key
from raymia.models import Classifier, build_model
from raymia.recipes.ground import TRAINED, Ground, defense_content, describe
from raymia.recipes.recipe import Bench, Recipe
from raymia.seeds import derive_seed
from raymia.store import DamagedError, Inspection, MissingError, Store
from raymia.training.defense import Composed, Context, Defense, TrainingSet
from raymia.training.loop import Plan, State, train
from raymia.training.run import as_pixels

_ANSWER_BATCH = 256


@dataclass(frozen=True, eq=False)
class ModelRecipe:
    """One model: its records, its defenses, its seed.

    positions: int64[n], the members, as positions in the study's records. reserve: the defender's further records.
    stream: names the model's random streams, e.g. ("target", 0). snapshots: the epochs after which it is kept; they
    are no part of its identity, since keeping a model does not change its training.
    """

    ground: Ground
    defense: Composed
    positions: NDArray[np.int64]
    reserve: NDArray[np.int64]
    stream: tuple[str | int, ...]
    snapshots: frozenset[int]

    kind = "models"

    @cached_property
    def key(self) -> str:
        content = {
            "ground": self.ground.content,
            "defense": defense_content(self.defense, TRAINED),
            "positions": array_digest(self.positions),
            "reserve": array_digest(self.reserve) if self._uses_reserve else None,
            "seed": self.seed,
            "requires": {name: recipe.key for name, recipe in self._parts.items()},
        }
        return content_key("model", content)

    @property
    def _uses_reserve(self) -> bool:
        return bool(self._parts) or any(part.needs_reserve for part in self.defense.parts)

    @property
    def exposure(self) -> NDArray[np.int8]:
        """int8[n]: how the model meets each of its positions."""
        return self.defense.exposure(self._context)

    @property
    def seed(self) -> int:
        """This model's seed: from the study's seed and the model's stream, the same under every defense."""
        return derive_seed(self.ground.config.seed, "model", *self.stream)

    @property
    def label(self) -> str:
        return " ".join([describe(self.defense), "·", *(str(part) for part in self.stream)])

    @property
    def artifacts(self) -> tuple[str, ...]:
        return tuple(self.artifact(epoch) for epoch in sorted(self.snapshots))

    def artifact(self, epoch: int) -> str:
        """Name of the model after `epoch` epochs."""
        return f"models/{self.key}/epoch-{epoch:04d}"

    @property
    def workers(self) -> int:
        return self.ground.config.engine.workers_per_model

    @property
    def gpus(self) -> float:
        return self.ground.config.engine.gpus_per_worker

    @cached_property
    def _context(self) -> Context:
        return Context(self.positions, self.reserve, self.ground.classes, self.seed, self._other_model)

    @cached_property
    def _parts(self) -> dict[str, Recipe]:
        return self.defense.requires(self._context)

    def _other_model(self, name: str, positions: NDArray[np.int64], defenses: tuple[Defense, ...]) -> "ModelRecipe":
        return ModelRecipe(
            self.ground,
            Composed(defenses),
            positions,
            np.zeros(0, dtype=np.int64),
            (*self.stream, name),
            frozenset({self.ground.config.training.epochs}),
        )

    def requires(self) -> Sequence[Recipe]:
        return tuple(self._parts.values())

    def build(self, bench: Bench) -> None:
        inspection = Inspection()
        missing = frozenset(
            epoch for epoch in self.snapshots if not inspection.intact(bench.store, self.artifact(epoch))
        )
        if not missing:
            return
        config = self.ground.config.training
        inputs = {name: recipe.open(bench) for name, recipe in self._parts.items()}  # type: ignore[attr-defined]
        rows = self._training_set(bench, inputs)
        plan = Plan(rows, self.ground.classes, config, self.defense, self.seed, missing, inputs)
        keeper = _StoreKeeper(self, bench)
        torch.set_num_threads(self.ground.config.engine.threads_per_worker)
        train(self._untrained, plan, keeper, bench.group, bench.device)
        if bench.group.rank == 0:
            bench.store.delete(keeper.checkpoint)

    def _training_set(self, bench: Bench, inputs: Mapping[str, Any]) -> TrainingSet:
        # Indexing copies: what a training changes in place must never reach the shared records.
        rows = TrainingSet(bench.records.inputs[self.positions], bench.records.labels[self.positions])
        return self.defense.training_set(self._context, inputs, rows)

    def _untrained(self) -> Classifier:
        options: dict[str, OptionValue | tuple[OptionValue, ...]] = self.ground.config.model.options
        return build_model(self.ground.config.model.name, self.ground.input_shape, self.ground.classes, options)

    def open(self, bench: Bench, epoch: int | None = None) -> "TrainedModel":
        """The kept model after `epoch` epochs (the last kept one by default), ready to answer."""
        payload, _ = bench.store.read(self.artifact(max(self.snapshots) if epoch is None else epoch))
        with torch.random.fork_rng():  # its random start is thrown away, and nobody's stream should feel it
            model = self.defense.architecture(self._untrained())
        model.load_state_dict(_unpack(payload))
        return TrainedModel(model.to(bench.device).eval(), self.defense, bench.device)

    def answer(self, bench: Bench, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[N, K]: what the model kept after `epoch` epochs answers on these records."""
        return self.open(bench, epoch).logits(bench.records.inputs[positions])

    def history(self, store: Store, epoch: int) -> list[float]:
        """Mean training loss of each epoch up to `epoch`."""
        return [float(loss) for loss in store.read(self.artifact(epoch))[1]["history"]]


@dataclass(frozen=True)
class TrainedModel:
    """A finished model, in eval mode and float32 whatever it was trained in: coarse logits would tie scores."""

    model: nn.Module
    defense: Composed
    device: torch.device

    def logits(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """float32[n, K]: what the released model answers to uint8 images [n, H, W, channels] or float32[n, F]."""
        answers = []
        # Not inference mode: a defense that answers by an optimization needs gradients of its own.
        with torch.no_grad():
            for start in range(0, len(inputs), _ANSWER_BATCH):
                batch = torch.from_numpy(np.array(inputs[start : start + _ANSWER_BATCH])).to(self.device)
                batch = as_pixels(batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch)
                answers.append(self.defense.release(self.model, batch).float().cpu().numpy())
        return np.concatenate(answers)


class _StoreKeeper:
    """Keeps checkpoints and snapshots in the store, under the model's content key."""

    def __init__(self, recipe: ModelRecipe, bench: Bench) -> None:
        self.checkpoint = f"checkpoints/{recipe.key}"
        self._recipe = recipe
        self._bench = bench
        self._started = time.monotonic()
        self._spent = 0.0

    def load(self) -> State | None:
        try:
            payload, meta = self._bench.store.read(self.checkpoint)
        except (MissingError, DamagedError):
            return None
        self._spent = float(meta["seconds"])
        return _unpack(payload)

    def save(self, state: State) -> None:
        self._bench.store.write(self.checkpoint, _pack(state), {"seconds": self._seconds()})

    def snapshot(self, epoch: int, weights: State, history: list[float]) -> None:
        meta = {"seconds": self._seconds(), "history": history, "epoch": epoch}
        self._bench.store.write(self._recipe.artifact(epoch), _pack(weights), meta)

    def report(self, epoch: int) -> None:
        self._bench.report(epoch, max(self._recipe.snapshots))

    def _seconds(self) -> float:
        return (self._spent + time.monotonic() - self._started) * self._bench.group.world


def _pack(state: State) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _unpack(payload: bytes) -> State:
    state: State = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state
