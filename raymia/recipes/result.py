"""Results: everything measured of one setting, over its targets."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from raymia.keys import content_key
from raymia.metrics.membership import AttackMetrics, pool_targets
from raymia.metrics.results import SeedResult
from raymia.metrics.utility import Utility, measure_utility
from raymia.recipes.recipe import Bench, Recipe
from raymia.recipes.scores import ScoresRecipe
from raymia.recipes.signals import SignalsRecipe
from raymia.seeds import generator
from raymia.store import Store
from raymia.versions import VERSIONS


@dataclass(frozen=True)
class Measured:
    """What a setting's artifact holds: each target's utility and attacks, the attacks pooled, the learning curve.

    train_loss: mean loss of each epoch, averaged over the targets (empty for the user's own training).
    """

    seeds: tuple[SeedResult, ...]
    pooled: Mapping[str, AttackMetrics]
    train_loss: tuple[float, ...]

    @property
    def objectives(self) -> tuple[float, float]:
        """What a search looks at: mean test accuracy (to raise) and the worst attack's mean AUC (to lower)."""
        accuracies = [seed.utility.test_accuracy for seed in self.seeds]
        return sum(accuracies) / len(accuracies), max(metrics.auc for metrics in self.pooled.values())


@dataclass(frozen=True, eq=False)
class ResultRecipe:
    """One setting: for each target model, the scores of every attack. label: the setting's, no part of its identity."""

    label: str
    targets: tuple[tuple[ScoresRecipe, ...], ...]

    kind = "results"
    workers = 1
    gpus = 0.0

    @cached_property
    def key(self) -> str:
        content = {
            "scores": [[scores.key for scores in target] for target in self.targets],
            "version": VERSIONS["metrics"],
        }
        return content_key("result", content)

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"results/{self.key}",)

    def requires(self) -> Sequence[Recipe]:
        return tuple(scores for target in self.targets for scores in target)

    def build(self, bench: Bench) -> None:
        started = time.monotonic()
        store = bench.store
        seeds = [
            SeedResult(number, _utility(target[0], store), {one.attack.name: one.metrics(store) for one in target})
            for number, target in enumerate(self.targets)
        ]
        content = {
            "seeds": [_seed_content(seed) for seed in seeds],
            "pooled": {attack: pooled.to_dict() for attack, pooled in self._pooled(store).items()},
            "train_loss": self._train_loss(store),
        }
        bench.store.write(self.artifacts[0], json.dumps(content).encode(), {"seconds": time.monotonic() - started})

    def _pooled(self, store: Store) -> dict[str, AttackMetrics]:
        pooled = {}
        for attack in range(len(self.targets[0])):
            recipes = [target[attack] for target in self.targets]
            name = recipes[0].attack.name
            scores, members = zip(*(recipe.scores(store) for recipe in recipes), strict=True)
            seed = recipes[0].target.model.ground.config.seed
            metrics = [recipe.metrics(store) for recipe in recipes]
            pooled[name] = pool_targets(metrics, scores, members, generator(seed, "pool", name))
        return pooled

    def _train_loss(self, store: Store) -> list[float]:
        signals = [target[0].target for target in self.targets]
        curves = [one.model.history(store, one.epoch) for one in signals]
        return [sum(losses) / len(losses) for losses in zip(*curves, strict=True)]

    def open(self, store: Store) -> Measured:
        """Read the measurements back."""
        content = json.loads(store.read(self.artifacts[0])[0])
        return Measured(
            seeds=tuple(_seed_result(seed) for seed in content["seeds"]),
            pooled={attack: AttackMetrics.from_dict(values) for attack, values in content["pooled"].items()},
            train_loss=tuple(content["train_loss"]),
        )


def _utility(scores: ScoresRecipe, store: Store) -> Utility:
    signals: SignalsRecipe = scores.target
    answers = signals.open(store)
    logits_NC = answers.logits_NQC[:, 0]
    member = scores.member
    return measure_utility(logits_NC[member], answers.labels_N[member], logits_NC[~member], answers.labels_N[~member])


def _seed_content(seed: SeedResult) -> dict[str, Any]:
    return {
        "seed": seed.seed,
        "utility": seed.utility.to_dict(),
        "attacks": {name: metrics.to_dict() for name, metrics in seed.attacks.items()},
    }


def _seed_result(content: dict[str, Any]) -> SeedResult:
    attacks = {name: AttackMetrics.from_dict(values) for name, values in content["attacks"].items()}
    return SeedResult(content["seed"], Utility.from_dict(content["utility"]), attacks)
