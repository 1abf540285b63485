"""TRADES (Zhang et al. 2019, arXiv 1901.08573): what `trades` and `trades_awp` share."""

from collections.abc import Callable

import torch
from torch import Tensor

from raymia.adversarial.training import crafted_logits, divergence
from raymia.training.defense import Batch, Losses, soft_cross_entropy
from raymia.training.run import Run


def trades_losses(run: Run, batch: Batch, inner: Callable[[], Losses], beta: float, name: str) -> Losses:
    """The inner objective plus `β · mean KL(p(x) ‖ p(x'))`, whose gradient flows through both answers.

    Adds the terms `kl` and `adversarial_ce`, the cross entropy of the examples to the batch's targets.
    """
    losses = inner()
    adversarial = crafted_logits(run, batch, name)
    apart: Tensor = divergence(*(torch.log_softmax(logits.float(), dim=1) for logits in (losses.logits, adversarial)))
    losses.terms |= {"kl": apart, "adversarial_ce": soft_cross_entropy(adversarial, batch.targets)}
    losses.objective = losses.objective + beta * apart.mean()
    return losses
