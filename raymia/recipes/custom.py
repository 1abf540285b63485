"""The user's own training, `package.module:function(images, labels, seed) -> model`, put under every attack.

What the user's function returns cannot be kept without unpickling it later, so the artifact is what the model answers
on every record of the study.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raymia.errors import InputError
from raymia.keys import array_digest, content_key
from raymia.models import load_function
from raymia.recipes.ground import Ground
from raymia.recipes.queries import asked
from raymia.recipes.recipe import Bench, Recipe
from raymia.recipes.signals import pack_arrays, unpack_arrays
from raymia.recipes.trained import TrainedModel
from raymia.records.plan import Exposure
from raymia.seeds import derive_seed
from raymia.store import Store
from raymia.training.defense import Composed
from raymia.versions import VERSIONS


@dataclass(frozen=True, eq=False)
class CustomModelRecipe:
    """A model trained by a user's function on the records at `positions` (int64[n]).

    source_digest: of the function's code, so that changed code is another model.
    """

    ground: Ground
    function: str
    source_digest: str
    positions: NDArray[np.int64]
    stream: tuple[str | int, ...]

    kind = "models"
    workers = 1
    defense = Composed(())

    @cached_property
    def key(self) -> str:
        content = {
            "ground": self.ground.content,
            "function": [self.function, self.source_digest],
            "positions": array_digest(self.positions),
            "queries": list(self.ground.config.queries),
            "seed": derive_seed(self.ground.config.seed, "model", *self.stream),
            # What is kept of it are its answers.
            "version": VERSIONS["signals"],
        }
        return content_key("custom model", content)

    @property
    def label(self) -> str:
        return " ".join([self.function, "·", *(str(part) for part in self.stream)])

    @property
    def exposure(self) -> NDArray[np.int8]:
        """int8[n]: the user's function trains on all of its records."""
        return np.full(len(self.positions), Exposure.DIRECT, dtype=np.int8)

    @property
    def threads(self) -> int:
        return self.ground.config.engine.threads_per_worker

    @property
    def gpus(self) -> float:
        return self.ground.config.engine.gpus_per_worker

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"answers/{self.key}",)

    def requires(self) -> Sequence[Recipe]:
        return ()

    def build(self, bench: Bench) -> None:
        started = time.monotonic()
        function: Callable[..., Any] = load_function("train", self.function)
        seed = derive_seed(self.ground.config.seed, "model", *self.stream)
        torch.set_num_threads(self.ground.config.engine.threads_per_worker)
        # Whatever generator the user's code draws from without seeding it.
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        model = function(bench.records.inputs[self.positions], bench.records.labels[self.positions], seed)
        if not isinstance(model, nn.Module):
            raise InputError(
                f"train: {self.function} returned {type(model).__name__}, it must return a torch.nn.Module"
            )
        trained = TrainedModel(model.to(bench.device).eval(), self.defense, bench.device)
        forms = asked(bench.records.inputs, self.ground.config.queries)
        logits_NQC = np.stack([trained.logits(form) for form in forms], axis=1)
        if logits_NQC.shape != (len(bench.records), len(forms), self.ground.classes):
            raise InputError(
                f"train: the model of {self.function} answers {logits_NQC.shape[2:]} a record, it must give "
                f"{self.ground.classes} logits"
            )
        bench.report(1, 1)
        payload = pack_arrays(logits_NQC=logits_NQC)
        bench.store.write(self.artifacts[0], payload, {"seconds": time.monotonic() - started})

    def answers_need(self, epoch: int) -> Sequence[Recipe]:
        """Nothing: the user's model answers as it is."""
        return ()

    def answer(self, bench: Bench, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[N, Q, K]: the model's kept answers; the user's training has no epochs that raymia knows of."""
        answers: NDArray[np.float32] = unpack_arrays(bench.store.read(self.artifacts[0])[0])["logits_NQC"][positions]
        return answers

    def bare(self, store: Store, device: torch.device, epoch: int) -> TrainedModel:
        """Not to be had: the model itself is not kept."""
        raise InputError(f"{self.function} keeps its weights to itself: leave out what needs them")

    open = bare

    def history(self, store: Store, epoch: int) -> list[float]:
        """Unknown: the user's own loop."""
        return []
