"""Robustness: on which unseen records one model withstands an evaluation's attacks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raymia.adversarial import autoattack_correct, pgd_20, pgd_correct
from raymia.config import Evaluation, RobustnessConfig
from raymia.keys import array_digest, content_key
from raymia.metrics.robustness import RobustAccuracy, measure_robustness
from raymia.recipes.keeper import StoreKeeper
from raymia.recipes.recipe import Bench, Recipe
from raymia.recipes.signals import AnsweringRecipe, pack_arrays, unpack_arrays
from raymia.seeds import generator
from raymia.store import Store
from raymia.training.rows import as_pixels
from raymia.versions import VERSIONS

_PART = 100


@dataclass(frozen=True, eq=False)
class RobustnessRecipe:
    """One evaluation of one model, as it was after `epoch` epochs, on records at `positions` (int64[N]).

    Of the model itself: whoever crafts with its weights does not depend on what its release makes of the answers, and
    no release here changes which class is the largest.
    """

    model: AnsweringRecipe
    epoch: int
    positions: NDArray[np.int64]
    evaluation: Evaluation

    kind = "robustness"
    workers = 1

    @cached_property
    def key(self) -> str:
        config = self._config
        content = {
            "model": self.model.key,
            "epoch": self.epoch,
            "positions": array_digest(self.positions),
            "evaluation": self.evaluation,
            "ball": [config.norm, config.epsilon],
            "step_size": config.step_size if self.evaluation == "pgd20" else None,
            "seed": self.model.ground.config.seed,
            "version": VERSIONS["robustness"],
        }
        return content_key("robustness", content)

    @property
    def _config(self) -> RobustnessConfig:
        return self.model.ground.config.robustness

    @property
    def label(self) -> str:
        return f"{self.evaluation} on {self.model.label}"

    @property
    def threads(self) -> int:
        return self.model.ground.config.engine.threads_per_worker

    @property
    def gpus(self) -> float:
        return self.model.gpus

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"robustness/{self.key}",)

    def requires(self) -> Sequence[Recipe]:
        return (self.model,)

    def build(self, bench: Bench) -> None:
        torch.set_num_threads(self.threads)
        network = self.model.bare(bench.store, bench.device, self.epoch).model
        keeper = StoreKeeper(self.key, lambda images: self.artifacts[0], len(self.positions), bench)
        state = keeper.load() or {"withstood": [], "warnings": []}
        # Hours for a large network: each part is kept, and draws from a stream of its own.
        for start in range(len(state["withstood"]), len(self.positions), _PART):
            withstood, warnings = self._attacked(network, bench, start)
            state["withstood"] += withstood.tolist()
            state["warnings"] += [warning for warning in warnings if warning not in state["warnings"]]
            keeper.save(state)
            keeper.report(len(state["withstood"]))
        payload = pack_arrays(withstood=np.array(state["withstood"], dtype=np.bool_), positions=self.positions)
        bench.store.write(self.artifacts[0], payload, {"warnings": state["warnings"], "seconds": keeper.seconds})
        keeper.done()

    def _attacked(self, network: nn.Module, bench: Bench, start: int) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
        """bool[n] for the part of the records from `start`, and the attacks' warnings."""
        config, positions = self._config, self.positions[start : start + _PART]
        images = torch.from_numpy(bench.records.inputs[positions]).permute(0, 3, 1, 2).to(bench.device)
        labels = torch.from_numpy(bench.records.labels[positions]).to(bench.device)
        pixels = as_pixels(images.contiguous())
        # The same starts under every defense.
        rng = generator(self.model.ground.config.seed, "robustness", self.evaluation, *self.model.stream, start)
        if self.evaluation == "aa":
            return autoattack_correct(network, pixels, labels, config.norm, config.epsilon, rng)
        return pgd_correct(network, pixels, labels, pgd_20(config), rng), ()

    def open(self, store: Store) -> RobustAccuracy:
        """The robust accuracy."""
        payload, meta = store.read(self.artifacts[0])
        return measure_robustness(unpack_arrays(payload)["withstood"], meta["warnings"])
