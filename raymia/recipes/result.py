"""Results: everything measured of one setting, over its targets."""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymia.keys import content_key
from raymia.metrics.leakage import lowest_resolved_fpr, worst_tpr
from raymia.metrics.membership import AttackMetrics, pool_targets
from raymia.metrics.populations import of_members
from raymia.metrics.results import SeedResult
from raymia.metrics.robustness import RobustAccuracy
from raymia.metrics.synthetic import SyntheticQuality
from raymia.metrics.utility import Utility, measure_utility
from raymia.recipes.leak import GeneratorScoresRecipe
from raymia.recipes.quality import QualityRecipe
from raymia.recipes.recipe import Bench, Recipe
from raymia.recipes.robustness import RobustnessRecipe
from raymia.recipes.scores import ScoresRecipe, Witness
from raymia.recipes.signals import SignalsRecipe
from raymia.seeds import generator
from raymia.store import Store
from raymia.versions import VERSIONS


@dataclass(frozen=True)
class Measured:
    """What a setting's artifact holds: each target's utility and attacks, the attacks pooled, the learning curve.

    Attacks are keyed by measure (`raymia.metrics.populations`). train_loss: mean loss of each epoch, averaged over the
    targets (empty for the user's own training). quality: of each target's generated images (empty without any).
    """

    seeds: tuple[SeedResult, ...]
    pooled: Mapping[str, AttackMetrics]
    train_loss: tuple[float, ...]
    quality: tuple[SyntheticQuality, ...]

    @property
    def outcome(self) -> dict[str, float]:
        """What a search may go by: mean test accuracy and robust accuracies, and of the attacks on any population of
        members the largest AUC and TPR, the latter at the lowest false-positive rate that the non-members resolve.
        """
        members = {name: self.pooled[name] for name in of_members(self.pooled)}
        found = {
            "test_accuracy": _mean([seed.utility.test_accuracy for seed in self.seeds]),
            "worst_auc": max(metrics.auc for metrics in members.values()),
        }
        for name in self.seeds[0].robustness:
            found[f"robust_accuracy_{name}"] = _mean([seed.robustness[name].accuracy for seed in self.seeds])
        fpr = lowest_resolved_fpr(min(metrics.nonmembers for metrics in members.values()))
        tpr = None if fpr is None else worst_tpr(members, fpr)
        return found if tpr is None else found | {"worst_tpr": tpr}


@dataclass(frozen=True, eq=False)
class TargetRecipes:
    """What is measured of one target model. itself: its answers on the records under attack, and how it met them.

    scores: of every attack. quality: of the generated images it was trained on, if any. robustness: what it withstands,
    an evaluation each. left_out: measures that cannot be taken, because too few references are IN for some record.
    """

    itself: Witness
    scores: tuple[ScoresRecipe | GeneratorScoresRecipe, ...]
    quality: tuple[QualityRecipe, ...]
    robustness: tuple[RobustnessRecipe, ...] = ()
    left_out: tuple[str, ...] = ()

    def without(self, measures: Collection[str]) -> "TargetRecipes":
        """The same without some measures."""
        kept = tuple(one for one in self.scores if one.measure not in measures)
        return replace(self, scores=kept)

    @property
    def signals(self) -> SignalsRecipe:
        """The target's answers."""
        return self.itself.signals

    @property
    def member(self) -> NDArray[np.bool_]:
        """bool[N]: which of the answered records the target was given."""
        member: NDArray[np.bool_] = self.itself.exposure > 0
        return member


@dataclass(frozen=True, eq=False)
class ResultRecipe:
    """One setting: what is measured of each of its targets. label: the setting's, no part of its identity.

    left_out: measures that cannot be taken on some target, and so on none.
    """

    label: str
    targets: tuple[TargetRecipes, ...]
    left_out: tuple[str, ...] = ()

    kind = "results"
    workers = 1
    threads = 1
    gpus = 0.0

    @cached_property
    def key(self) -> str:
        content: dict[str, Any] = {
            "targets": [target.itself.content for target in self.targets],
            "scores": [[scores.key for scores in target.scores] for target in self.targets],
            "versions": [VERSIONS["metrics"], VERSIONS["results"]],
        }
        if quality := [recipe.key for target in self.targets for recipe in target.quality]:
            content["quality"] = quality
        if robustness := [recipe.key for target in self.targets for recipe in target.robustness]:
            content["robustness"] = robustness
        return content_key("result", content)

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"results/{self.key}",)

    def requires(self) -> Sequence[Recipe]:
        return tuple(
            recipe
            for target in self.targets
            for recipe in (target.signals, *target.scores, *target.quality, *target.robustness)
        )

    def build(self, bench: Bench) -> None:
        started = time.monotonic()
        store = bench.store
        seeds = [_measured(number, target, store) for number, target in enumerate(self.targets)]
        content = {
            "seeds": [_seed_content(seed) for seed in seeds],
            "pooled": {attack: pooled.to_dict() for attack, pooled in self._pooled(store).items()},
            "train_loss": self._train_loss(store),
            "quality": [recipe.open(store).to_dict() for target in self.targets for recipe in target.quality],
        }
        bench.store.write(self.artifacts[0], json.dumps(content).encode(), {"seconds": time.monotonic() - started})

    def _pooled(self, store: Store) -> dict[str, AttackMetrics]:
        pooled = {}
        for recipes in zip(*(target.scores for target in self.targets), strict=True):
            measure = recipes[0].measure
            scores, members = zip(*(recipe.scores(store) for recipe in recipes), strict=True)
            metrics = [recipe.metrics(store) for recipe in recipes]
            found = pool_targets(metrics, scores, members, generator(recipes[0].seed, "pool", measure))
            if metrics[0].epsilon_lower is not None:
                found = replace(found, epsilon_lower=_largest_bound(recipes, scores, members))
            pooled[measure] = found
        return pooled

    def _train_loss(self, store: Store) -> list[float]:
        signals = [target.signals for target in self.targets]
        curves = [one.model.history(store, one.epoch) for one in signals]
        return [sum(losses) / len(losses) for losses in zip(*curves, strict=True)]

    def open(self, store: Store) -> Measured:
        """Read the measurements back."""
        content = json.loads(store.read(self.artifacts[0])[0])
        return Measured(
            seeds=tuple(_seed_result(seed) for seed in content["seeds"]),
            pooled={attack: AttackMetrics.from_dict(values) for attack, values in content["pooled"].items()},
            train_loss=tuple(content["train_loss"]),
            quality=tuple(SyntheticQuality.from_dict(one) for one in content["quality"]),
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _largest_bound(
    recipes: Sequence[ScoresRecipe | GeneratorScoresRecipe], scores: Sequence[Any], members: Sequence[Any]
) -> float:
    """The best of the targets' bounds on ε, each at a level that holds for all of them at once."""
    runs = zip(recipes, scores, members, strict=True)
    return max(
        one.epsilon_lower(own, member, len(recipes)) for one, own, member in runs if isinstance(one, ScoresRecipe)
    )


def _measured(number: int, target: TargetRecipes, store: Store) -> SeedResult:
    return SeedResult(
        number,
        _utility(target, store),
        {one.measure: one.metrics(store) for one in target.scores},
        {one.evaluation: one.open(store) for one in target.robustness},
    )


def _utility(target: TargetRecipes, store: Store) -> Utility:
    answers = target.signals.open(store)
    logits_NC = answers.logits_NQC[:, 0]
    member = target.member
    return measure_utility(logits_NC[member], answers.labels_N[member], logits_NC[~member], answers.labels_N[~member])


def _seed_content(seed: SeedResult) -> dict[str, Any]:
    return {
        "seed": seed.seed,
        "utility": seed.utility.to_dict(),
        "attacks": {name: metrics.to_dict() for name, metrics in seed.attacks.items()},
        "robustness": {name: found.to_dict() for name, found in seed.robustness.items()},
    }


def _seed_result(content: dict[str, Any]) -> SeedResult:
    attacks = {name: AttackMetrics.from_dict(values) for name, values in content["attacks"].items()}
    robustness = {name: RobustAccuracy.from_dict(values) for name, values in content["robustness"].items()}
    return SeedResult(content["seed"], Utility.from_dict(content["utility"]), attacks, robustness)
