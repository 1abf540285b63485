"""The models that the benchmarks train."""

from typing import Any

import numpy as np

from raymia.config import EngineConfig, ModelConfig, StudyConfig, TrainingConfig
from raymia.engine.precision import resolve_precision
from raymia.recipes.ground import Ground
from raymia.recipes.model import ModelRecipe
from raymia.records import Records
from raymia.training.defense import Composed

THREADS = 1


def training(epochs: int, batch_size: int, precision: str = "auto") -> TrainingConfig:
    """SGD without augmentation, in the precision that is fastest here."""
    return TrainingConfig.model_validate(
        {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": 0.02,
            "checkpoint_every": 5,
            "precision": resolve_precision(precision, "cpu"),
        }
    )


def noise_images(count: int, side: int = 32, channels: int = 3, classes: int = 10) -> Records:
    """Random images and labels: speed does not depend on what is on them."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, size=(count, side, side, channels), dtype=np.uint8)
    names = tuple(str(label) for label in range(classes))
    return Records(inputs, rng.integers(0, classes, count), np.arange(count), names, "random images")


def recipe(
    records: Records, name: str, options: dict[str, Any], settings: TrainingConfig, members: int, number: int
) -> ModelRecipe:
    """Undefended model number `number` on the first `members` records."""
    config = StudyConfig(
        model=ModelConfig(name=name, options=options),
        training=settings,
        engine=EngineConfig(threads_per_worker=THREADS),
    )
    height, width, channels = records.inputs.shape[1:]
    shape = (channels, height, width)
    ground = Ground(config, records.fingerprint, len(records), shape, records.classes, "", "cpu")
    nobody = np.zeros(0, dtype=np.int64)
    kept = frozenset({settings.epochs})
    return ModelRecipe(ground, Composed(()), np.arange(members), nobody, ("benchmark", number), kept)
