"""Scores: one attack on one target model, and how well it did."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raymia.attacks import (
    Attack,
    AttackerView,
    ShadowSignals,
    guess_members,
    run_attack,
    shadow_threshold,
)
from raymia.keys import array_digest, content_key
from raymia.metrics.membership import AttackMetrics, measure_attack
from raymia.models import foreign_digest
from raymia.recipes.recipe import Bench, Recipe
from raymia.recipes.signals import SignalsRecipe, pack_arrays, unpack_arrays
from raymia.seeds import generator
from raymia.store import Store
from raymia.versions import VERSIONS


@dataclass(frozen=True, eq=False)
class ScoresRecipe:
    """One attack's score for each record that the target's signals cover, and its metrics.

    member: bool[N], the truth the metrics are measured against. The attack never sees it.
    shadow_member: bool[S] for the shadow's own records.
    """

    attack: Attack
    target: SignalsRecipe
    member: NDArray[np.bool_]
    shadow: SignalsRecipe
    shadow_member: NDArray[np.bool_]

    kind = "scores"
    workers = 1
    gpus = 0.0

    @cached_property
    def key(self) -> str:
        content = {
            "attack": self.attack.name,
            "hyperparameters": asdict(self.attack) if is_dataclass(self.attack) else {},
            "target": self.target.key,
            "member": array_digest(self.member),
            "shadow": self.shadow.key,
            "shadow_member": array_digest(self.shadow_member),
            "versions": [VERSIONS["attacks"], VERSIONS["metrics"]],
            "foreign": foreign_digest(type(self.attack)),
        }
        return content_key("scores", content)

    @property
    def label(self) -> str:
        return f"{self.attack.name} on {self.target.model.label}"

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"scores/{self.key}",)

    def requires(self) -> Sequence[Recipe]:
        return (self.target, self.shadow)

    def build(self, bench: Bench) -> None:
        started = time.monotonic()
        ground = self.target.model.ground
        shadow = ShadowSignals(self.shadow.open(bench.store), self.shadow_member)
        view = AttackerView(ground.classes, (shadow,))
        scores = run_attack(self.attack, view, self.target.open(bench.store), self._stream("fit"))
        threshold = shadow_threshold(self.attack, view, self._stream("threshold"))
        metrics = measure_attack(scores, self.member, self._stream("metrics"), guess_members(scores, threshold))
        meta = {"metrics": metrics.to_dict(), "seconds": time.monotonic() - started}
        payload = pack_arrays(scores=scores, member=self.member, positions=self.target.positions)
        bench.store.write(self.artifacts[0], payload, meta)

    def _stream(self, use: str) -> np.random.Generator:
        model = self.target.model
        return generator(model.ground.config.seed, "attack", self.attack.name, use, *model.stream)

    def metrics(self, store: Store) -> AttackMetrics:
        """How well the attack did."""
        return AttackMetrics.from_dict(store.read(self.artifacts[0])[1]["metrics"])

    def scores(self, store: Store) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """float64[N] scores, larger = more likely a member, and the truth bool[N]."""
        arrays = unpack_arrays(store.read(self.artifacts[0])[0])
        return arrays["scores"], arrays["member"]
