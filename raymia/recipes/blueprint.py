"""From a setting to its graph of recipes: which models, on which records, under which attacks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from raymia.attacks import Attack, attack_named
from raymia.defenses import CustomTraining, GeneratedOnly
from raymia.errors import InputError
from raymia.metrics.populations import ALL, DIRECT, INDIRECT
from raymia.metrics.synthetic import LEAST_HELD_OUT
from raymia.models import source_digest
from raymia.recipes.custom import CustomModelRecipe
from raymia.recipes.ground import Ground, trained_names
from raymia.recipes.leak import GENERATOR_ATTACKS, GeneratorScoresRecipe
from raymia.recipes.model import ModelRecipe
from raymia.recipes.quality import QualityRecipe
from raymia.recipes.recipe import MODELS, Recipe, walk
from raymia.recipes.result import ResultRecipe, TargetRecipes
from raymia.recipes.scores import ScoresRecipe
from raymia.recipes.signals import AnsweringRecipe, SignalsRecipe
from raymia.recipes.synthetic import SyntheticRecipe
from raymia.records.plan import Exposure, MembershipPlan, Role, quad_plan
from raymia.space import Setting
from raymia.training.defense import Composed


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
        measured = [self.target(setting, target) for target in targets]
        return ResultRecipe(setting.label, tuple(measured))

    def target(self, setting: Setting, target: int) -> TargetRecipes:
        """What has to be made to measure one target of a setting."""
        plan = self.plan(target)
        signals, exposure = self._signals(setting, plan, (Role.TARGET_IN, Role.TARGET_OUT), ("target", target))
        shadow, theirs = self._signals(setting, plan, (Role.SHADOW_IN, Role.SHADOW_OUT), ("shadow", target))
        scores: list[ScoresRecipe | GeneratorScoresRecipe] = [
            ScoresRecipe(attack, signals, exposure, shadow, theirs, population)
            for population in _populations(exposure)
            for attack in self.attacks
        ]
        quality = []
        for images in synthetic_sets(signals.model):
            member = exposure > 0
            scores += [GeneratorScoresRecipe(one, images, signals.positions, member) for one in GENERATOR_ATTACKS]
            quality.append(self._quality(images, plan, target))
        return TargetRecipes(tuple(scores), tuple(quality))

    def _quality(self, images: SyntheticRecipe, plan: MembershipPlan, target: int) -> QualityRecipe:
        """Judged with models that the study has anyway: undefended on the members, and on the shadow's for features."""
        epochs = frozenset({self.ground.config.training.epochs})
        nobody, stream = np.zeros(0, dtype=np.int64), ("target", target)
        members, others = plan[Role.TARGET_IN], plan[Role.TARGET_OUT]
        if len(others) < LEAST_HELD_OUT:
            raise InputError(
                f"plan.part_size: {len(others)} records are too few to judge generated images by; "
                f"give {LEAST_HELD_OUT} or more"
            )
        undefended = ModelRecipe(self.ground, Composed(()), members, nobody, stream, epochs)
        encoder = ModelRecipe(self.ground, Composed(()), plan[Role.SHADOW_IN], nobody, ("shadow", target), epochs)
        # As many as there are members, as far as the set reaches.
        taken = min(images.per_class, max(len(members) // self.ground.classes, 1))
        only = Composed((GeneratedOnly.of(images.synthesis, taken),))
        generated = ModelRecipe(self.ground, only, members, nobody, stream, epochs)
        return QualityRecipe(images, members, others, undefended, generated, encoder)

    def _signals(
        self, setting: Setting, plan: MembershipPlan, roles: tuple[Role, Role], stream: tuple[str | int, ...]
    ) -> tuple[SignalsRecipe, NDArray[np.int8]]:
        """A model's answers on the records it was given and on the non-members, and its exposure to each: int8[N].

        Sorted, so that their order tells nothing of membership.
        """
        model = self._model(setting, plan, roles[0], stream)
        answered = np.sort(np.concatenate([model.positions, plan[roles[1]]]))
        exposure = np.full(len(answered), Exposure.OUT, dtype=np.int8)
        exposure[np.searchsorted(answered, model.positions)] = model.exposure
        epoch = setting.defense.select(self.ground.config.training.epochs)
        return SignalsRecipe(model, epoch, answered), exposure

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


def _populations(exposure: NDArray[np.int8]) -> list[str]:
    """All members, and those that the model met directly and indirectly apart, where it met some indirectly."""
    found = [ALL]
    if (exposure == Exposure.INDIRECT).any():
        found += [DIRECT] if (exposure == Exposure.DIRECT).any() else []
        found.append(INDIRECT)
    return found


def synthetic_sets(model: Recipe) -> list[SyntheticRecipe]:
    """The sets of generated images that a model is made from."""
    return [recipe for recipe in walk([model]) if isinstance(recipe, SyntheticRecipe)]


def models(recipes: Iterable[Recipe]) -> list[Recipe]:
    """The distinct models, generators among them, in whatever the recipes need."""
    return [recipe for recipe in walk(list(recipes)) if recipe.kind in MODELS]


@lru_cache(maxsize=1024)
def _plan(records: int, part_size: int | None, seed: int, target: int, reserve: bool) -> MembershipPlan:
    return quad_plan(records, part_size=part_size, seed=seed, target=target, reserve=reserve)
