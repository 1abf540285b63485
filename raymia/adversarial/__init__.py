"""Adversarial examples: where they may lie, how they are crafted, how a training uses them, what a model withstands."""

from raymia.adversarial.autoattack import autoattack_correct, check_autoattack
from raymia.adversarial.evaluation import PASSES, pgd_20, pgd_correct, raise_loss
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
    "PASSES",
    "Attack",
    "CraftedBatch",
    "Epsilon",
    "Mode",
    "Norm",
    "StepSize",
    "Steps",
    "autoattack_correct",
    "check_autoattack",
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
    "pgd_20",
    "pgd_correct",
    "raise_loss",
    "region_around",
    "spread",
    "trades_losses",
    "weights_to_perturb",
]
