"""What a study's models and images will take on disk; all else that it keeps is small beside them."""

import math
from collections.abc import Sequence

from raymia.diffusion.shards import EXAMPLES
from raymia.recipes.ground import Ground
from raymia.recipes.recipe import Recipe
from raymia.recipes.rehearsal import untrained
from raymia.recipes.synthetic import SyntheticRecipe

# Of the images drawn: what passes the filter is not known before.
KEPT = 0.5
# Beside an image's pixels: its numbers and verdicts, and what Parquet says of them. Measured.
_BESIDE_PIXELS = 56


def classifier_bytes(ground: Ground) -> int:
    """Of one model as it is kept: its weights, no optimizer's state."""
    weights = untrained(ground).state_dict().values()
    return sum(values.numel() * values.element_size() for values in weights)


def generator_bytes(generators: Sequence[Recipe], ground: Ground) -> int:
    """Of so many generators as they are kept: the weights that they draw with."""
    if not generators:
        return 0
    # Imported here: diffusers takes seconds to load, and few studies generate images.
    from raymia.diffusion.pace import denoiser_bytes

    channels, height, width = ground.input_shape
    return len(generators) * denoiser_bytes(ground.config.diffusion, (channels, height, width), ground.classes)


def image_bytes(sets: Sequence[SyntheticRecipe], ground: Ground) -> int:
    """Of the sets' shards: the images kept, and the few rejected ones that a shard shows."""
    size, pixels = ground.config.diffusion.shard_size, math.prod(ground.input_shape)
    return sum(stored_images(one.per_class, ground.classes, size) * (pixels + _BESIDE_PIXELS) for one in sets)


def stored_images(per_class: int, classes: int, shard_size: int) -> int:
    """Images in the shards of a set, were `KEPT` of those drawn kept, whole shards being drawn."""
    shards = math.ceil(per_class * classes / KEPT / shard_size)
    kept = round(shard_size * KEPT)
    return shards * (kept + min(shard_size - kept, EXAMPLES * classes))
