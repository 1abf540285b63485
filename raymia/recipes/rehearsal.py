"""What a training of a study looks like from outside, to time it or to try whether it can begin: a model, and noise."""

import numpy as np
import torch

from raymia.models import Classifier, build_model
from raymia.recipes.ground import Ground
from raymia.training.defense import TrainingSet


def untrained(ground: Ground) -> Classifier:
    """The study's model, as it is before training; torch's random state stays as it was."""
    with torch.random.fork_rng():
        return build_model(ground.config.model.name, ground.input_shape, ground.classes, ground.config.model.options)


def noise_like(ground: Ground, records: int) -> TrainingSet:
    """Random records of the study's kind, with random labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, ground.classes, records)
    if len(ground.input_shape) == 1:
        return TrainingSet(rng.standard_normal((records, *ground.input_shape)).astype(np.float32), labels)
    channels, height, width = ground.input_shape
    return TrainingSet(rng.integers(0, 256, (records, height, width, channels), dtype=np.uint8), labels)
