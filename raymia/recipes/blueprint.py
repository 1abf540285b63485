"""From a setting to its graph of recipes: which models, on which records, under which attacks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

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
from raymia.records.plan import Exposure, MembershipPlan, Role, quad_plan
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
        scored, member = self._signals(setting, plan, (Role.TARGET_IN, Role.TARGET_OUT), ("target", target))
        shadow, shadow_member = self._signals(setting, plan, (Role.SHADOW_IN, Role.SHADOW_OUT), ("shadow", target))
        return tuple(ScoresRecipe(attack, scored, member, shadow, shadow_member) for attack in self.attacks)

    def _signals(
        self, setting: Setting, plan: MembershipPlan, roles: tuple[Role, Role], stream: tuple[str | int, ...]
    ) -> tuple[SignalsRecipe, NDArray[np.bool_]]:
        """A model's answers on the members that it trains on and on the non-members, and which are which: bool[N].

        Records it met only indirectly are neither. Sorted, so that their order tells nothing of membership.
        """
        model = self._model(setting, plan, roles[0], stream)
        direct = model.positions[model.exposure == Exposure.DIRECT]
        answered = np.sort(np.concatenate([direct, plan[roles[1]]]))
        epoch = setting.defense.select(self.ground.config.training.epochs)
        return SignalsRecipe(model, epoch, answered), np.isin(answered, direct)

    def _model(
        self, setting: Setting, plan: MembershipPlan, members: Role, stream: tuple[str | int, ...]
    ) -> AnsweringRecipe:
        for part in setting.defense.parts:
            if isinstance(part, CustomTraining):
                digest = source_digest("train", part.function)
                return CustomModelRecipe(self.ground, part.function, digest, plan[members], stream)
        reserve = plan.roles.get(Role.RESERVE, np.zeros(0, dtype=np.int64))
        return ModelRecipe(self.ground, setting.defense, plan[members], reserve, stream, self._kept(setting))

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
