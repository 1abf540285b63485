"""Scores: one attack on one target model, and how well it did."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property
from typing import Any

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
from raymia.metrics.populations import ALL, DIRECT, INDIRECT, named
from raymia.models import foreign_digest
from raymia.recipes.recipe import Bench, Recipe
from raymia.recipes.signals import SignalsRecipe, pack_arrays, unpack_arrays
from raymia.records.plan import Exposure
from raymia.seeds import generator
from raymia.store import Store
from raymia.versions import VERSIONS

MEMBERS: Mapping[str, tuple[Exposure, ...]] = {
    ALL: (Exposure.INDIRECT, Exposure.DIRECT),
    DIRECT: (Exposure.DIRECT,),
    INDIRECT: (Exposure.INDIRECT,),
}


@dataclass(frozen=True, eq=False)
class ScoresRecipe:
    """One attack's score for each record of a population, and its metrics.

    exposure: int8[N], how the target met each record that its signals cover: the truth the metrics are measured
    against. The attack never sees it. shadow_exposure: int8[S] for the shadow's own records. population: the exposure
    that makes a member (`raymia.metrics.populations`); records of another exposure are left out, the shadow's alike.
    """

    attack: Attack
    target: SignalsRecipe
    exposure: NDArray[np.int8]
    shadow: SignalsRecipe
    shadow_exposure: NDArray[np.int8]
    population: str = ALL

    kind = "scores"
    workers = 1
    threads = 1
    gpus = 0.0

    @cached_property
    def key(self) -> str:
        content: dict[str, Any] = {
            "attack": self.attack.name,
            "hyperparameters": asdict(self.attack) if is_dataclass(self.attack) else {},
            "target": self.target.key,
            "member": array_digest(self.exposure > 0),
            "shadow": self.shadow.key,
            "shadow_member": array_digest(self.shadow_exposure > 0),
            "versions": [VERSIONS["attacks"], VERSIONS["metrics"]],
            "foreign": foreign_digest(type(self.attack)),
        }
        if self.population != ALL:
            content["population"] = self.population
            content["exposure"] = [array_digest(self.exposure), array_digest(self.shadow_exposure)]
        return content_key("scores", content)

    @property
    def measure(self) -> str:
        """What is measured: the attack, on the population."""
        return named(self.attack.name, self.population)

    @property
    def seed(self) -> int:
        """The study's."""
        return self.target.model.ground.config.seed

    @property
    def label(self) -> str:
        return f"{self.measure} on {self.target.model.label}"

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"scores/{self.key}",)

    def requires(self) -> Sequence[Recipe]:
        return (self.target, self.shadow)

    def build(self, bench: Bench) -> None:
        started = time.monotonic()
        shadow_N = _counted(self.shadow_exposure, self.population)
        shadow = ShadowSignals(self.shadow.open(bench.store).take(shadow_N), self.shadow_exposure[shadow_N] > 0)
        view = AttackerView(self.target.model.ground.classes, (shadow,))
        counted = _counted(self.exposure, self.population)
        scores = run_attack(self.attack, view, self.target.open(bench.store).take(counted), self._stream("fit"))
        threshold = shadow_threshold(self.attack, view, self._stream("threshold"))
        member = self.exposure[counted] > 0
        metrics = measure_attack(scores, member, self._stream("metrics"), guess_members(scores, threshold))
        meta = {"metrics": metrics.to_dict(), "seconds": time.monotonic() - started}
        payload = pack_arrays(scores=scores, member=member, positions=self.target.positions[counted])
        bench.store.write(self.artifacts[0], payload, meta)

    def _stream(self, use: str) -> np.random.Generator:
        populations = () if self.population == ALL else (self.population,)
        return generator(self.seed, "attack", self.attack.name, use, *self.target.model.stream, *populations)

    def metrics(self, store: Store) -> AttackMetrics:
        """How well the attack did."""
        return AttackMetrics.from_dict(store.read(self.artifacts[0])[1]["metrics"])

    def scores(self, store: Store) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """float64[N] scores, larger = more likely a member, and the truth bool[N]."""
        arrays = unpack_arrays(store.read(self.artifacts[0])[0])
        return arrays["scores"], arrays["member"]


def _counted(exposure: NDArray[np.int8], population: str) -> NDArray[np.bool_]:
    """bool[N]: the population's members and all non-members."""
    return (exposure == Exposure.OUT) | np.isin(exposure, MEMBERS[population])
