"""From a setting to its graph of recipes: which models, on which records, under which attacks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from raymia.adversarial import check_autoattack
from raymia.attacks import Attack, Needs, attack_named
from raymia.defenses import CustomTraining, GeneratedOnly
from raymia.errors import InputError
from raymia.metrics.populations import ALL, CANARY, DIRECT, INDIRECT
from raymia.metrics.synthetic import LEAST_HELD_OUT
from raymia.models import source_digest
from raymia.recipes.custom import CustomModelRecipe
from raymia.recipes.ground import Ground, trained_names
from raymia.recipes.leak import GENERATOR_ATTACKS, GeneratorScoresRecipe
from raymia.recipes.model import ModelRecipe
from raymia.recipes.quality import QualityRecipe
from raymia.recipes.queries import check_queries
from raymia.recipes.recipe import MODELS, Recipe, walk
from raymia.recipes.result import ResultRecipe, TargetRecipes
from raymia.recipes.robustness import RobustnessRecipe
from raymia.recipes.scores import ScoresRecipe, Witness
from raymia.recipes.signals import AnsweringRecipe, SignalsRecipe
from raymia.recipes.synthetic import SyntheticRecipe
from raymia.recipes.witnesses import REFERENCE_NEEDS, WITHOUT_HALVES, Cast, Witnesses
from raymia.records import Records
from raymia.records.canaries import check_canaries, planted
from raymia.records.plan import Exposure, MembershipPlan, Role, poisson_membership, reference_membership
from raymia.records.plan_choice import plan_for
from raymia.seeds import generator
from raymia.space import Setting
from raymia.training.defense import Composed


@dataclass(frozen=True)
class Blueprint:
    """Makes the recipes of a study's settings; plans and seeds are the same for all of them.

    Raises InputError for attacks and queries that the study has nothing for.

    stops: by the defenses that change the training, the epochs after which some setting releases its model.
    """

    ground: Ground
    stops: Mapping[frozenset[str], frozenset[int]]
    attacks: tuple[Attack, ...] = field(init=False)

    def __post_init__(self) -> None:
        config = self.ground.config
        object.__setattr__(self, "attacks", tuple(attack_named(name) for name in config.attacks))
        check_queries(config.queries, self.ground.input_shape)
        check_canaries(config.plan.canary_kind, self.ground.input_shape)
        for attack in self.attacks:
            if attack.needs & REFERENCE_NEEDS and not config.plan.references:
                raise InputError(f"attacks: {attack.name} needs reference models; set plan.references to 16 or more")
            if Needs.QUERIES in attack.needs and len(config.queries) < 2:
                raise InputError(f"attacks: {attack.name} needs further queries; set queries to [identity, shifts]")
            if Needs.ADVERSARIAL_QUERIES in attack.needs:
                self._need_images(f"attacks: {attack.name}")
            if config.plan.kind == "half" and attack.needs & WITHOUT_HALVES:
                raise InputError(f"attacks: {attack.name} needs records that plan.kind half has not; set it to quad")

        if config.robustness.evaluations:
            self._need_images("robustness.evaluations")
        if "aa" in config.robustness.evaluations:
            _, height, width = self.ground.input_shape
            check_autoattack(self.ground.classes, height, width, config.robustness.norm)

    def _need_images(self, what: str) -> None:
        if len(self.ground.input_shape) != 3:
            raise InputError(f"{what}: adversarial examples are images, the records are feature vectors; leave it out")

    def plan(self, target: int) -> MembershipPlan:
        """The membership plan around target model number `target`."""
        config = self.ground.config
        return plan_for(self.ground.records, config.plan, config.seed, target)

    def planted(self, records: Records) -> Records:
        """The study's records, its canaries made."""
        config = self.ground.config
        return planted(records, self.plan(0)[Role.CANARY], config.plan.canary_kind, config.seed)

    def result(self, setting: Setting) -> ResultRecipe:
        """Everything that has to be made to measure a setting."""
        targets = range(self.ground.config.plan.targets)
        measured = [self.target(setting, target) for target in targets]
        # What is pooled over the targets has to be there for each of them.
        left_out = tuple(dict.fromkeys(name for one in measured for name in one.left_out))
        return ResultRecipe(setting.label, tuple(one.without(left_out) for one in measured), left_out)

    def target(self, setting: Setting, target: int) -> TargetRecipes:
        """What has to be made to measure one target of a setting."""
        plan = self.plan(target)
        cast = self._cast(setting, plan, target)
        witnesses = self._witnesses(setting, cast, plan.scored, plan.shadow)
        populations = _populations(witnesses.target.exposure)
        measured = [(witnesses, population) for population in populations]
        if len(plan[Role.CANARY]):
            audited = replace(cast, references=self._auditors(setting, plan, target))
            measured.append((self._witnesses(setting, audited, plan[Role.CANARY], plan.shadow), CANARY))
        scores: list[ScoresRecipe | GeneratorScoresRecipe] = [
            asked.scores(attack, population)
            for asked, population in measured
            for attack in self.attacks
            if asked.runs(attack, population)
        ]
        left_out = [name for asked, population in measured for name in asked.left_out(self.attacks, population)]
        quality = []
        for images in synthetic_sets(cast.target):
            positions, member = witnesses.target.signals.positions, witnesses.target.exposure > 0
            scores += [GeneratorScoresRecipe(one, images, positions, member) for one in GENERATOR_ATTACKS]
            quality.append(self._quality(images, plan, target))
        robustness = self._robustness(witnesses.target, target)
        return TargetRecipes(witnesses.target, tuple(scores), tuple(quality), robustness, tuple(left_out))

    def _robustness(self, itself: Witness, target: int) -> tuple[RobustnessRecipe, ...]:
        """What the model withstands, on the same non-members under every defense."""
        config, signals = self.ground.config, itself.signals
        unseen = signals.positions[itself.exposure == Exposure.OUT]
        order = generator(config.seed, "robustness", target).permutation(len(unseen))
        chosen = np.sort(unseen[order[: config.robustness.images]])
        named = dict.fromkeys(config.robustness.evaluations)
        return tuple(RobustnessRecipe(signals.model, signals.epoch, chosen, name) for name in named)

    def _cast(self, setting: Setting, plan: MembershipPlan, target: int) -> Cast:
        """The target, its shadow, and as many references as the study's attacks ask for."""
        config = self.ground.config
        if config.plan.kind == "half":
            models = self._halves(setting, plan, plan.scored, ("half",))
            own = self._model(setting, plan, plan[Role.TARGET_IN], ("half", target))
            return Cast(own, None, tuple(one for one in models if one.key != own.key))
        canaries = plan[Role.CANARY]
        drawn = canaries[poisson_membership(len(canaries), seed=config.seed, target=target)]
        members = np.sort(np.concatenate([plan[Role.TARGET_IN], drawn]))
        # Targets that share their records share the references too.
        owner = 0 if config.plan.kind == "shared" else target
        return Cast(
            self._model(setting, plan, members, ("target", target)),
            self._model(setting, plan, plan[Role.SHADOW_IN], ("shadow", target)),
            tuple(self._halves(setting, plan, plan.scored, ("reference", owner), owner)),
        )

    def _auditors(self, setting: Setting, plan: MembershipPlan, target: int) -> tuple[AnsweringRecipe, ...]:
        """References for the canaries alone: each is in half of them, and all the target's other members in every one
        (Aerni, Zhang & Tramèr 2024, arXiv 2404.17399).
        """
        canaries, others = plan[Role.CANARY], plan[Role.TARGET_IN]
        return tuple(self._halves(setting, plan, canaries, ("canary", target), target, others))

    def _halves(
        self,
        setting: Setting,
        plan: MembershipPlan,
        positions: NDArray[np.int64],
        stream: tuple[str | int, ...],
        owner: int = 0,
        always: NDArray[np.int64] | None = None,
    ) -> list[AnsweringRecipe]:
        """As many models as the study's attacks ask for, on random halves of these records in balanced blocks, and on
        the records that are always there.
        """
        config = self.ground.config
        count = config.plan.references if self._needs & REFERENCE_NEEDS else 0
        halves = reference_membership(len(positions), models=count, seed=config.seed, target=owner)
        all_there = np.zeros(0, dtype=np.int64) if always is None else always
        members = [np.sort(np.concatenate([all_there, positions[half]])) for half in halves]
        return [self._model(setting, plan, some, (*stream, number)) for number, some in enumerate(members)]

    def _witnesses(
        self, setting: Setting, cast: Cast, scored: NDArray[np.int64], shadowed: NDArray[np.int64]
    ) -> Witnesses:
        """What they answer on the scored records, and on the shadow's."""
        outside = [cast.target, *cast.references] if Needs.POPULATION in self._needs else []
        return Witnesses(
            self._answers(setting, cast.target, scored),
            None if cast.shadow is None else self._answers(setting, cast.shadow, shadowed),
            tuple(self._answers(setting, one, scored) for one in cast.references),
            tuple(self._answers(setting, one, shadowed).signals for one in outside),
        )

    @property
    def _needs(self) -> frozenset[Needs]:
        return frozenset[Needs]().union(*(attack.needs for attack in self.attacks))

    def _quality(self, images: SyntheticRecipe, plan: MembershipPlan, target: int) -> QualityRecipe:
        """Judged with models that the study has anyway: undefended on the members, and on the shadow's for features."""
        epochs = frozenset({self.ground.config.training.epochs})
        nobody, stream = np.zeros(0, dtype=np.int64), ("target", target)
        # What the generator learned from: with canaries, more than the plan's members.
        members, others = images.generator.positions, plan[Role.TARGET_OUT]
        if not len(plan[Role.SHADOW_IN]):
            raise InputError("plan.kind: half has no other records to judge generated images by; set it to quad")
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

    def _answers(self, setting: Setting, model: AnsweringRecipe, positions: NDArray[np.int64]) -> Witness:
        """A model's answers on these records, sorted, so that their order tells nothing; and its exposure to each."""
        exposure = np.full(len(positions), Exposure.OUT, dtype=np.int8)
        met = np.searchsorted(positions, model.positions)
        own = (met < len(positions)) & (positions[np.minimum(met, len(positions) - 1)] == model.positions)
        exposure[met[own]] = model.exposure[own]
        epoch = setting.defense.select(self.ground.config.training.epochs)
        return Witness(SignalsRecipe(model, epoch, positions), exposure)

    def _model(
        self, setting: Setting, plan: MembershipPlan, members: NDArray[np.int64], stream: tuple[str | int, ...]
    ) -> AnsweringRecipe:
        for part in setting.defense.parts:
            if isinstance(part, CustomTraining):
                self._without_weights(part.function)
                digest = source_digest("train", part.function)
                return CustomModelRecipe(self.ground, part.function, digest, members, stream)
        reserve = plan.roles.get(Role.RESERVE, np.zeros(0, dtype=np.int64))
        return ModelRecipe(self.ground, setting.defense, members, reserve, stream, self._kept(setting))

    def _without_weights(self, function: str) -> None:
        for attack in self.attacks:
            if attack.needs & {Needs.GRADIENT_NORM, Needs.ADVERSARIAL_QUERIES}:
                raise InputError(f"attacks: {attack.name} needs the weights, which {function} keeps to itself")
        if self.ground.config.robustness.evaluations:
            raise InputError(
                f"robustness.evaluations: need the weights, which {function} keeps to itself; set it to []"
            )

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
