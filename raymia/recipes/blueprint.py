"""From a setting to its graph of recipes: which models, on which records, under which attacks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from raymia.attacks import Attack, attack_named
from raymia.defenses import CustomTraining
from raymia.models import source_digest
from raymia.recipes.custom import CustomModelRecipe
from raymia.recipes.ground import Ground, trained_names
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Recipe, walk
from raymia.recipes.result import ResultRecipe
from raymia.recipes.scores import ScoresRecipe
from raymia.recipes.signals import AnsweringRecipe, SignalsRecipe
from raymia.records.plan import MembershipPlan, Positions, Role, quad_plan
from raymia.space import Setting


@dataclass(frozen=True)
class Blueprint:
    """Makes the recipes of a study's settings; plans and seeds are the same for all of them.

    stops: by the defenses that change the training, the epochs after which some setting releases its model. reserve:
    whether the plan carves the defender's part.
    """

    ground: Ground
    stops: Mapping[frozenset[str], frozenset[int]]
    reserve: bool
    attacks: tuple[Attack, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attacks", tuple(attack_named(name) for name in self.ground.config.attacks))

    def plan(self, target: int) -> MembershipPlan:
        """The membership plan around target model number `target`."""
        config = self.ground.config
        return _plan(self.ground.records, config.plan.part_size, config.seed, target, self.reserve)

    def result(self, setting: Setting) -> ResultRecipe:
        """Everything that has to be made to measure a setting."""
        targets = range(self.ground.config.plan.targets)
        return ResultRecipe(setting.label, tuple(self._scores(setting, target) for target in targets))

    def _scores(self, setting: Setting, target: int) -> tuple[ScoresRecipe, ...]:
        plan = self.plan(target)
        scored = self._signals(setting, plan, Role.TARGET_IN, plan.scored, ("target", target))
        shadow = self._signals(setting, plan, Role.SHADOW_IN, plan.shadow, ("shadow", target))
        member = np.isin(plan.scored, plan[Role.TARGET_IN])
        shadow_member = np.isin(plan.shadow, plan[Role.SHADOW_IN])
        return tuple(ScoresRecipe(attack, scored, member, shadow, shadow_member) for attack in self.attacks)

    def _signals(
        self, setting: Setting, plan: MembershipPlan, members: Role, answered: Positions, stream: tuple[str | int, ...]
    ) -> SignalsRecipe:
        epochs = self.ground.config.training.epochs
        model: AnsweringRecipe
        custom = next((part for part in setting.defense.parts if isinstance(part, CustomTraining)), None)
        if custom is not None:
            digest = source_digest("train", custom.function)
            model = CustomModelRecipe(self.ground, custom.function, digest, plan[members], stream)
        else:
            reserve = plan.roles.get(Role.RESERVE, np.zeros(0, dtype=np.int64))
            model = ModelRecipe(self.ground, setting.defense, plan[members], reserve, stream, self._kept(setting))
        return SignalsRecipe(model, setting.defense.select(epochs), answered)

    def _kept(self, setting: Setting) -> frozenset[int]:
        # A defense that selects an epoch shares its training with the setting's other stops: all are kept at once.
        own = frozenset({setting.defense.select(self.ground.config.training.epochs)})
        return own | self.stops.get(trained_names(setting.defense), frozenset())


def models(recipes: Iterable[Recipe]) -> list[Recipe]:
    """The distinct models among whatever the recipes need."""
    return [recipe for recipe in walk(list(recipes)) if recipe.kind == "models"]


@lru_cache(maxsize=1024)
def _plan(records: int, part_size: int | None, seed: int, target: int, reserve: bool) -> MembershipPlan:
    return quad_plan(records, part_size=part_size, seed=seed, target=target, reserve=reserve)
