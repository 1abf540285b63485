"""Trained models: the recipe that runs the loop and keeps the model after the epochs asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raymia.config import OptionValue
from raymia.diffusion.synthesis import Synthesis
from raymia.keys import array_digest, content_key
from raymia.models import Classifier, build_model
from raymia.recipes.generator import GeneratorRecipe, check_images
from raymia.recipes.ground import TRAINED, Ground, defense_content, describe
from raymia.recipes.keeper import StoreKeeper, unpack_state
from raymia.recipes.recipe import Bench, Recipe
from raymia.recipes.synthetic import SyntheticRecipe
from raymia.seeds import derive_seed, generator
from raymia.store import Inspection, Store
from raymia.training.defense import Composed, Context, Defense, TrainingSet
from raymia.training.loop import Plan, train
from raymia.training.rows import as_pixels, in_memory

_ANSWER_BATCH = 256
_CALIBRATED = 10
"""One record in so many is kept from the classifier to calibrate it on."""


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
        return any(part.needs_reserve for part in self.defense.parts)

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
        return " ".join([describe(self.defense) or "none", "·", *(str(part) for part in self.stream)])

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
    def threads(self) -> int:
        return self.ground.config.engine.threads_per_worker

    @property
    def gpus(self) -> float:
        return self.ground.config.engine.gpus_per_worker

    @cached_property
    def _context(self) -> Context:
        return Context(self.positions, self.reserve, self.ground.classes, self.seed, self._other_model, self._synthetic)

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

    def _synthetic(self, synthesis: Synthesis) -> SyntheticRecipe:
        """Images of a generator trained on this model's positions, filtered by a classifier trained on them too."""
        check_images(self.ground, len(self.positions))
        order = generator(self.seed, "calibration").permutation(len(self.positions))
        aside = order[: max(len(order) // _CALIBRATED, 1)] if synthesis.calibrate else order[:0]
        kept = np.setdiff1d(np.arange(len(order)), aside)
        return SyntheticRecipe(
            self.ground,
            synthesis,
            GeneratorRecipe(self.ground, self.positions, self.stream),
            self._other_model("classifier", self.positions[kept], ()),
            np.sort(self.positions[aside]),
            self.stream,
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
        inputs = {
            name: recipe.open(bench.store, bench.device)  # type: ignore[attr-defined]
            for name, recipe in self._parts.items()
        }
        rows = self._training_set(bench, inputs)
        plan = Plan(rows, self.ground.classes, config, self.defense, self.seed, missing, inputs, bench.fetch)
        keeper = StoreKeeper(self.key, self.artifact, max(self.snapshots), bench)
        torch.set_num_threads(self.ground.config.engine.threads_per_worker)
        train(self._untrained, plan, keeper, bench.group, bench.device)
        if bench.group.rank == 0:
            keeper.done()

    def _training_set(self, bench: Bench, inputs: Mapping[str, Any]) -> TrainingSet:
        # Indexing copies: what a training changes in place must never reach the shared records.
        rows = TrainingSet(bench.records.inputs[self.positions], bench.records.labels[self.positions])
        rows = self.defense.training_set(self._context, inputs, rows)
        return in_memory(rows, self.ground.config.engine.in_memory_gb)

    def _untrained(self) -> Classifier:
        options: dict[str, OptionValue | tuple[OptionValue, ...]] = self.ground.config.model.options
        return build_model(self.ground.config.model.name, self.ground.input_shape, self.ground.classes, options)

    def open(self, store: Store, device: torch.device, epoch: int | None = None) -> "TrainedModel":
        """The kept model after `epoch` epochs (the last kept one by default), ready to answer."""
        payload, _ = store.read(self.artifact(max(self.snapshots) if epoch is None else epoch))
        with torch.random.fork_rng():  # its random start is thrown away, and nobody's stream should feel it
            model = self.defense.architecture(self._untrained())
        model.load_state_dict(unpack_state(payload))
        return TrainedModel(model.to(device).eval(), self.defense, device)

    def answer(self, bench: Bench, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[N, K]: what the model kept after `epoch` epochs answers on these records."""
        return self.open(bench.store, bench.device, epoch).logits(bench.records.inputs[positions])

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
