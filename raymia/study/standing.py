"""What of a study is there already, found without Ray and without training."""

from collections.abc import Mapping
from dataclasses import dataclass

from raymia.recipes.blueprint import models
from raymia.recipes.recipe import Recipe, walk
from raymia.recipes.result import ResultRecipe
from raymia.space import Setting
from raymia.store import DamagedError, Inspection, MissingError, Store
from raymia.study.search import Outcome, proposer
from raymia.study.study import Study

Tried = tuple[Setting, ResultRecipe]


@dataclass(frozen=True)
class Standing:
    """settings: those known without training anything, in the order of their numbers. models: theirs.

    reused: how many of the models are there and whole. generators_left: how many of those that are not generate images.
    damaged: recipes by the name of their damaged artifact.
    complete: whether every setting of the study is known and all it needs is there and whole.
    """

    settings: tuple[Tried, ...]
    models: int
    reused: int
    generators_left: int
    damaged: Mapping[str, Recipe]
    complete: bool


def standing(study: Study, store: Store) -> Standing:
    """Look through the store. A fresh run finds nothing that was written before it."""
    settings, all_known = _replay(study, store)
    recipes = list(walk([recipe for _, recipe in settings]))
    present = present_names(store)
    damaged = {name: recipe for recipe in recipes for name in _damaged(recipe, store, present)}
    spoiled = {recipe.key for recipe in damaged.values()}
    whole = {recipe.key for recipe in recipes if exists(recipe, present) and recipe.key not in spoiled}
    wanted = models(recipes)
    return Standing(
        settings=tuple(settings),
        models=len(wanted),
        reused=sum(model.key in whole for model in wanted),
        generators_left=sum(model.kind == "generators" and model.key not in whole for model in wanted),
        damaged=damaged,
        complete=all_known and len(whole) == len(recipes),
    )


def present_names(store: Store) -> frozenset[str]:
    """Names of the artifacts that count as present: none of the old ones in a fresh run."""
    return frozenset() if store.fresh is not None else frozenset(name for name, _ in store.names())


def exists(recipe: Recipe, present: frozenset[str]) -> bool:
    """Whether all of a recipe's artifacts are there, undamaged or not."""
    return all(name in present for name in recipe.artifacts)


def _damaged(recipe: Recipe, store: Store, present: frozenset[str]) -> list[str]:
    inspection = Inspection()
    for name in recipe.artifacts:
        if name in present:
            inspection.intact(store, name)
    return inspection.damaged


def _replay(study: Study, store: Store) -> tuple[list[Tried], bool]:
    """The settings that the search proposes, as far as the outcomes it goes by are there; whether those are all."""
    source = proposer(study.space, study.config.seed)
    found: dict[Setting, ResultRecipe] = {}
    while settings := source.propose():
        for setting in settings:
            # Optuna may propose a setting twice; it is tried once.
            found.setdefault(setting, study.result(setting))
        outcomes = [_outcome(found[setting], store) for setting in settings]
        if None in outcomes:
            return list(found.items()), False
        source.tell(outcomes)
    return list(found.items()), True


def _outcome(recipe: ResultRecipe, store: Store) -> Outcome | None:
    try:
        return recipe.open(store).outcome
    except (MissingError, DamagedError):
        return None
