"""Scores: one attack on one target model, and how well it did."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymia.attacks import (
    Attack,
    AttackerView,
    Needs,
    ReferenceRecords,
    References,
    ShadowSignals,
    Signals,
    guess_members,
    run_attack,
    shadow_threshold,
    without_queries,
)
from raymia.defenses.dp_sgd import spent_epsilon
from raymia.keys import array_digest, content_key
from raymia.metrics.dp_audit import one_run_epsilon
from raymia.metrics.intervals import ALPHA
from raymia.metrics.membership import AttackMetrics, measure_attack
from raymia.metrics.populations import ALL, CANARY, DIRECT, INDIRECT, named
from raymia.models import foreign_digest
from raymia.privacy import default_delta
from raymia.recipes.recipe import Bench, Recipe
from raymia.recipes.signals import GradientNormRecipe, SignalsRecipe, pack_arrays, unpack_arrays
from raymia.records.plan import Exposure
from raymia.seeds import generator
from raymia.store import Store
from raymia.versions import VERSIONS

# Of the canaries, guessed in and guessed out: fixed before any score is seen.
_GUESSED = 0.1

MEMBERS: Mapping[str, tuple[Exposure, ...]] = {
    ALL: (Exposure.INDIRECT, Exposure.DIRECT),
    DIRECT: (Exposure.DIRECT,),
    INDIRECT: (Exposure.INDIRECT,),
    CANARY: (Exposure.INDIRECT, Exposure.DIRECT),
}


@dataclass(frozen=True, eq=False)
class Witness:
    """One of the attacker's own models: its answers, and how it met each of their records (int8[N])."""

    signals: SignalsRecipe
    exposure: NDArray[np.int8]

    @property
    def content(self) -> list[str]:
        """What of it matters to an attack."""
        return [self.signals.key, array_digest(self.exposure)]

    def crafted(self) -> "Witness":
        """It, asked about its own adversarial examples of the records."""
        return Witness(replace(self.signals, crafted=True), self.exposure)


@dataclass(frozen=True, eq=False)
class ScoresRecipe:
    """One attack's score for each record of a population, and its metrics.

    exposure: int8[N], how the target met each record that its signals cover: the truth the metrics are measured
    against. The attack never sees it. population: the exposure that makes a member (`raymia.metrics.populations`);
    records of another exposure are left out, the attacker's own models' alike.

    The rest is what the attack asks for, and empty otherwise. shadow: a model on records of its own. references: models
    on the target's records. outside: answers on records that none of these trained on (the attacker's Z), the target's
    first, then the references'. gradients: the target's, then the shadow's if there is one.
    """

    attack: Attack
    target: SignalsRecipe
    exposure: NDArray[np.int8]
    shadow: Witness | None = None
    references: tuple[Witness, ...] = ()
    outside: tuple[SignalsRecipe, ...] = ()
    gradients: tuple[GradientNormRecipe, ...] = ()
    population: str = ALL

    kind = "scores"
    workers = 1
    threads = 1
    gpus = 0.0

    @cached_property
    def key(self) -> str:
        # Adversarial queries stand in the name alone: what may be anybody's is the attack that asks them.
        itself = without_queries(self.attack)
        content: dict[str, Any] = {
            "attack": self.attack.name,
            "hyperparameters": asdict(itself) if is_dataclass(itself) else {},
            "target": [self.target.key, array_digest(self.exposure)],
            "shadow": self.shadow.content if self.shadow else None,
            "references": [one.content for one in self.references],
            "outside": [one.key for one in self.outside],
            "gradients": [one.key for one in self.gradients],
            "population": self.population,
            "versions": [VERSIONS["attacks"], VERSIONS["metrics"]],
            "foreign": foreign_digest(type(itself)),
        }
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
        witnesses = [one.signals for one in ((self.shadow,) if self.shadow else ()) + self.references]
        return (self.target, *witnesses, *self.outside, *self.gradients)

    def build(self, bench: Bench) -> None:
        started = time.monotonic()
        counted = _counted(self.exposure, self.population)
        target = self._target(bench, counted)
        view = AttackerView(
            self.target.model.ground.classes,
            self._shadows(bench),
            ReferenceRecords(target.labels_N, target.references) if target.references is not None else None,
            self._outside(bench),
        )
        scores = run_attack(self.attack, view, target, self._stream("fit"))
        threshold = shadow_threshold(self.attack, view, self._stream("threshold"))
        member = self.exposure[counted] > 0
        guesses = None if threshold is None else guess_members(scores, threshold)
        metrics = measure_attack(scores, member, self._stream("metrics"), guesses)
        if self.population == CANARY:
            metrics = replace(metrics, epsilon_lower=self.epsilon_lower(scores, member))
        meta = {"metrics": metrics.to_dict(), "seconds": time.monotonic() - started}
        payload = pack_arrays(scores=scores, member=member, positions=self.target.positions[counted])
        bench.store.write(self.artifacts[0], payload, meta)

    def epsilon_lower(self, scores: NDArray[np.float64], member: NDArray[np.bool_], runs: int = 1) -> float:
        """What the canaries show that the training's ε is at least, one of `runs` such bounds that hold at once."""
        model, guesses = self.target.model, max(round(_GUESSED * len(scores)), 1)
        training = model.ground.config.training
        spent = spent_epsilon(model.defense, len(model.positions), training.batch_size, training.epochs)
        delta = spent.delta if spent else default_delta(len(model.positions))
        return one_run_epsilon(scores, member, guesses, guesses, delta, 1 - ALPHA / runs).epsilon

    def _target(self, bench: Bench, counted: NDArray[np.bool_]) -> Signals:
        """The target's answers on the counted records, and the references'."""
        signals = self.target.open(bench.store)
        norms = self.gradients[0].open(bench.store) if self.gradients else None
        inputs = self._images(bench, self.target.positions)
        found = replace(signals, references=self._references(bench), gradient_norm_N=norms, inputs_N=inputs)
        return found.take(counted)

    def _references(self, bench: Bench) -> References | None:
        if not self.references:
            return None
        exposure_MN = np.stack([one.exposure for one in self.references])
        return References(
            [one.signals.stored(bench.store) for one in self.references],
            np.arange(len(self.target.positions)),
            np.isin(exposure_MN, MEMBERS[self.population]),
            exposure_MN == Exposure.OUT,
        )

    def _shadows(self, bench: Bench) -> tuple[ShadowSignals, ...]:
        if self.shadow is None:
            return ()
        counted = _counted(self.shadow.exposure, self.population)
        signals = self.shadow.signals.open(bench.store)
        norms = self.gradients[1].open(bench.store) if self.gradients else None
        return (
            ShadowSignals(replace(signals, gradient_norm_N=norms).take(counted), self.shadow.exposure[counted] > 0),
        )

    def _outside(self, bench: Bench) -> Signals | None:
        if not self.outside:
            return None
        target, *references = self.outside
        signals = target.open(bench.store)
        nobody = np.zeros((len(references), len(signals)), dtype=np.bool_)
        others = References.of([one.stored(bench.store) for one in references], nobody) if references else None
        return replace(signals, references=others, inputs_N=self._images(bench, target.positions))

    def _images(self, bench: Bench, positions: NDArray[np.int64]) -> NDArray[Any] | None:
        return bench.records.inputs[positions] if Needs.IMAGES in self.attack.needs else None

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
