"""Projected gradient descent on the pixels (Madry et al. 2018, arXiv 1706.06083): the inner attack of every method."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from raymia.adversarial.region import Norm, Region, like, region_around

Epsilon = Annotated[float, Field(gt=0)]
Steps = Annotated[int, Field(ge=1)]
StepSize = Annotated[float, Field(gt=0)]

Gain = Callable[[Tensor], Tensor]
"""Logits float32[B, K] -> the scalar that the attack raises, a sum over the records, so that none changes another's."""

_GAUSSIAN = 0.001


@dataclass(frozen=True)
class Attack:
    """PGD: so many steps of `step_size` up the gradient, each followed by a projection.

    norm, epsilon: of the ball, in pixel units. start: `uniform` in the ball (PGD-AT, AWP), or `gaussian`, the image and
    0.001·N(0, I) (TRADES, MART), whose KL has no gradient at the image itself.
    """

    norm: Norm
    epsilon: float
    steps: int
    step_size: float
    start: Literal["uniform", "gaussian"] = "uniform"

    def begin(self, images: Tensor, region: Region, rng: np.random.Generator) -> Tensor:
        """Where it starts, inside the region."""
        if self.start == "uniform":
            return region.draw(rng)
        noise = like(images, rng.standard_normal(images.shape, dtype=np.float32))
        return region.project(images + _GAUSSIAN * noise)


def craft(
    model: nn.Module,
    images: Tensor,
    gain: Gain,
    attack: Attack,
    rng: np.random.Generator,
    autocast: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Tensor:
    """Adversarial examples float32[B, ...] of images float32[B, ...] in [0, 1], under the model in eval mode.

    The model is left as it was: its modes, its batch statistics and its gradients, of which none is computed for the
    parameters. rng: of the start. autocast: makes the precision of each pass.
    """
    images = images.detach()
    if not len(images):
        return images
    region = region_around(images, attack.norm, attack.epsilon)
    found = attack.begin(images, region, rng)
    with only_asked(model), torch.enable_grad():
        for _ in range(attack.steps):
            found.requires_grad_()
            with autocast():
                logits = model(found)
            [gradient] = torch.autograd.grad(gain(logits.float()), found)
            found = region.ascend(found.detach(), gradient, attack.step_size)
    return found


@contextlib.contextmanager
def only_asked(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and its parameters constant inside; every module and parameter as before after."""
    modes = [(module, module.training) for module in model.modules()]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_()
        for module, training in modes:
            module.training = training
