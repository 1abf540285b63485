"""Which artifacts a study or a set of generated images stands on: what `raymia clean` must spare."""

from collections.abc import Sequence

from raymia.recipes.recipe import CHECKPOINTED, Recipe, walk
from raymia.recipes.synthetic import SyntheticRecipe


def references(recipes: Sequence[Recipe]) -> str:
    """Every artifact that these recipes use, checkpoints included, a line each; a folder's name ends in `/`."""
    names: list[str] = []
    for recipe in walk(recipes):
        names += recipe.artifacts
        names += [f"checkpoints/{recipe.key}"] if recipe.kind in CHECKPOINTED else []
        names += [f"{recipe.folder}/"] if isinstance(recipe, SyntheticRecipe) else []
    return "\n".join(names) + "\n"
