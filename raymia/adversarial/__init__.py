"""Adversarial examples: where they may lie, how they are crafted, how a training uses them, what a model withstands."""

from raymia.adversarial.evaluation import pgd_correct
from raymia.adversarial.pgd import Attack, Epsilon, Steps, StepSize, craft, only_asked
from raymia.adversarial.region import Norm, region_around
from raymia.adversarial.spread import Mode, spread
from raymia.adversarial.trades import trades_losses
from raymia.adversarial.training import (
    EXAMPLES,
    CraftedBatch,
    craft_against_divergence,
    craft_against_targets,
    crafted_logits,
    crafts,
    divergence,
    need_images,
)
from raymia.adversarial.weights import need_weights, perturbed_step, weights_to_perturb

__all__ = [
    "EXAMPLES",
    "Attack",
    "CraftedBatch",
    "Epsilon",
    "Mode",
    "Norm",
    "StepSize",
    "Steps",
    "craft",
    "craft_against_divergence",
    "craft_against_targets",
    "crafted_logits",
    "crafts",
    "divergence",
    "need_images",
    "need_weights",
    "only_asked",
    "perturbed_step",
    "pgd_correct",
    "region_around",
    "spread",
    "trades_losses",
    "weights_to_perturb",
]
