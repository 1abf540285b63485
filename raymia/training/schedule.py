"""Learning-rate schedules, as a factor of the base rate for each epoch: never dependent on where training stops."""

import math

from raymia.config import TrainingConfig


def rate_factor(config: TrainingConfig, progress: float) -> float:
    """The factor on the learning rate at `progress` (epochs done / epochs in all, 0 <= progress < 1).

    `step` multiplies by gamma at each milestone passed; `cosine` falls to 0 (Loshchilov & Hutter 2017); `warmup` is
    a linear rise over the first fraction.
    """
    if progress < config.warmup:
        return (progress + 1e-3) / (config.warmup + 1e-3)
    if config.schedule == "step":
        return config.gamma ** sum(progress >= milestone for milestone in config.milestones)
    if config.schedule == "cosine":
        span = max(1.0 - config.warmup, 1e-9)
        return 0.5 * (1.0 + math.cos(math.pi * (progress - config.warmup) / span))
    return 1.0
