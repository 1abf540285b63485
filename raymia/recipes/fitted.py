"""Fitted parts: what a defense's release needs besides the model, made from the finished model's own answers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from raymia.keys import array_digest, content_key
from raymia.models import foreign_digest
from raymia.recipes.ground import defense_content
from raymia.recipes.keeper import pack_state, unpack_state
from raymia.recipes.recipe import Bench, Recipe
from raymia.store import Store
from raymia.training.defense import Composed, Stage

if TYPE_CHECKING:
    from raymia.recipes.model import ModelRecipe


@dataclass(frozen=True, eq=False)
class FittedRecipe:
    """What a model's defenses fit to it as it was after `epoch` epochs (`raymia.training.defense.Defense.fit`).

    An artifact apart from the model: a changed release hyperparameter makes neither anew, a changed one of the fit only
    this, and a model that other settings release plainly serves here too.
    """

    model: "ModelRecipe"
    epoch: int

    kind = "fitted"
    workers = 1

    @cached_property
    def key(self) -> str:
        fitting = self.model.defense.fitting
        content = {
            "model": self.model.key,
            "epoch": self.epoch,
            "defenses": [[part.name, part.version, foreign_digest(type(part))] for part in fitting],
            "hyperparameters": defense_content(Composed(fitting), frozenset({Stage.FIT})),
            "reserve": array_digest(self.model.reserve) if any(part.needs_reserve for part in fitting) else None,
        }
        return content_key("fitted", content)

    @property
    def label(self) -> str:
        return f"release of {self.model.label}"

    @property
    def threads(self) -> int:
        return self.model.threads

    @property
    def gpus(self) -> float:
        return self.model.gpus

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"fitted/{self.key}",)

    def requires(self) -> Sequence[Recipe]:
        return (self.model,)

    def build(self, bench: Bench) -> None:
        started = time.monotonic()
        torch.set_num_threads(self.threads)
        payload = pack_state(self.model.fit(bench, self.epoch))
        bench.store.write(self.artifacts[0], payload, {"seconds": time.monotonic() - started})

    def open(self, store: Store, device: torch.device) -> dict[str, dict[str, Tensor]]:
        """Tensors by defense and name, on this device."""
        state = unpack_state(store.read(self.artifacts[0])[0])
        return {part: {name: value.to(device) for name, value in found.items()} for part, found in state.items()}
