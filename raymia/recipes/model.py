"""Trained models: the recipe that runs the loop and keeps the model after the epochs asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raymia.config import OptionValue
from raymia.diffusion.synthesis import Synthesis
from raymia.keys import array_digest, content_key
from raymia.models import Classifier, build_model
from raymia.recipes.fitted import FittedRecipe
from raymia.recipes.generator import GeneratorRecipe, check_images
from raymia.recipes.ground import TRAINED, Ground, defense_content, describe, trained_names
from raymia.recipes.keeper import StoreKeeper, unpack_state
from raymia.recipes.queries import asked
from raymia.recipes.recipe import Bench, Recipe
from raymia.recipes.synthetic import SyntheticRecipe
from raymia.recipes.trained import TrainedModel
from raymia.seeds import derive_seed, generator
from raymia.store import Inspection, Store
from raymia.training.defense import Composed, Context, Defense, TrainingSet
from raymia.training.loop import Plan, train
from raymia.training.rows import in_memory

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
            "reserve": array_digest(self.reserve) if self._trained_on_reserve else None,
            "seed": self.seed,
            "requires": {name: recipe.key for name, recipe in self._parts.items()},
        }
        return content_key("model", content)

    @property
    def _trained_on_reserve(self) -> list[str]:
        """The defenses that have the reserve in training; one may want it for the finished model alone."""
        trained = trained_names(self.defense)
        return [part.name for part in self.defense.parts if part.needs_reserve and part.name in trained]

    @property
    def exposure(self) -> NDArray[np.int8]:
        """int8[n]: how the model meets each of its positions."""
        return self.defense.exposure(self._context)

    @property
    def row_count(self) -> int:
        """How many rows it trains on: its members, or what its defenses make of them."""
        return self.defense.row_count(self._context, self._parts, len(self.positions))

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
        ground = self.ground
        makers = (self._other_model, self._synthetic)
        return Context(self.positions, self.reserve, ground.classes, self.seed, *makers, self.workers)

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
        models = [part for part in self._parts.values() if isinstance(part, ModelRecipe)]
        fitted = [recipe for model in models for recipe in model.answers_need(max(model.snapshots))]
        return (*self._parts.values(), *fitted)

    def answers_need(self, epoch: int) -> tuple[FittedRecipe, ...]:
        """What must be made, besides the model after `epoch` epochs, before it can answer."""
        return (FittedRecipe(self, epoch),) if self.defense.fitting else ()

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
        inputs |= {f"{name}/reserve": _rows(bench, self.reserve) for name in self._trained_on_reserve}
        rows = self._training_set(bench, inputs)
        plan = Plan(rows, self.ground.classes, config, self.defense, self.seed, missing, inputs, bench.fetch)
        keeper = StoreKeeper(self.key, self.artifact, max(self.snapshots), bench)
        torch.set_num_threads(self.ground.config.engine.threads_per_worker)
        train(self._untrained, plan, keeper, bench.group, bench.device)
        if bench.group.rank == 0:
            keeper.done()

    def _training_set(self, bench: Bench, inputs: Mapping[str, Any]) -> TrainingSet:
        rows = self.defense.training_set(self._context, inputs, _rows(bench, self.positions))
        return in_memory(rows, self.ground.config.engine.in_memory_gb)

    def _untrained(self) -> Classifier:
        options: dict[str, OptionValue | tuple[OptionValue, ...]] = self.ground.config.model.options
        return build_model(self.ground.config.model.name, self.ground.input_shape, self.ground.classes, options)

    def open(self, store: Store, device: torch.device, epoch: int | None = None) -> TrainedModel:
        """The kept model after `epoch` epochs (the last kept one by default), ready to answer."""
        epoch = max(self.snapshots) if epoch is None else epoch
        fitted = {}
        for recipe in self.answers_need(epoch):
            fitted = recipe.open(store, device)
        return replace(self.bare(store, device, epoch), defense=self.defense, fitted=fitted)

    def bare(self, store: Store, device: torch.device, epoch: int) -> TrainedModel:
        """The model after `epoch` epochs as it is, whatever its defenses make of its answers."""
        payload, _ = store.read(self.artifact(epoch))
        with torch.random.fork_rng():  # its random start is thrown away, and nobody's stream should feel it
            model = self.defense.architecture(self._untrained())
        model.load_state_dict(unpack_state(payload))
        return TrainedModel(model.to(device).eval(), Composed(()), device)

    def fit(self, bench: Bench, epoch: int) -> dict[str, dict[str, Tensor]]:
        """What the defenses fit to the model kept after `epoch` epochs (`raymia.recipes.fitted`)."""
        bare = self.bare(bench.store, bench.device, epoch)
        return self.defense.fit(self._context, lambda positions: bare.logits(bench.records.inputs[positions]))

    def answer(self, bench: Bench, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[N, Q, K]: the answers of the model kept after `epoch` epochs to the study's queries."""
        model = self.open(bench.store, bench.device, epoch)
        forms = asked(bench.records.inputs[positions], self.ground.config.queries)
        return np.stack([model.logits(form) for form in forms], axis=1)

    def history(self, store: Store, epoch: int) -> list[float]:
        """Mean training loss of each epoch up to `epoch`."""
        return [float(loss) for loss in store.read(self.artifact(epoch))[1]["history"]]


def _rows(bench: Bench, positions: NDArray[np.int64]) -> TrainingSet:
    # Indexing copies: what a training changes in place must never reach the shared records.
    return TrainingSet(bench.records.inputs[positions], bench.records.labels[positions])
