"""AutoAttack (Croce & Hein 2020, arXiv 2003.01690), by its authors' package: the standard set."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raymia.adversarial.evaluation import check_pixels
from raymia.adversarial.pgd import only_asked
from raymia.adversarial.region import Norm, region_around
from raymia.errors import InputError

FEWEST_CLASSES = 4
"""The targeted loss that it raises takes the differences of four logits."""
_LEAST_SIDE = 5
_MOST_TARGETS = 9
_NORMS = {"linf": "Linf", "l2": "L2"}
_LOGGER = "auto-attack"


def autoattack_correct(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    epsilon: float,
    rng: np.random.Generator,
    *,
    batch_size: int = 250,
) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """bool[n]: the records answered rightly as they are and under APGD-CE, APGD-T, FAB-T and Square (5,000 queries).

    images: float32[n, C, H, W] in [0, 1], labels: int64[n], both on the model's device. An example counts only where
    it lies in the ball and in the range. The second value: AutoAttack's own warnings, such as gradients that are zero,
    or Square finding what the white-box attacks missed: then the accuracy is an upper bound only. Raises InputError
    for what it cannot attack (`check_autoattack`), ValueError for images outside of the range.
    """
    check_pixels(images)
    if not len(images):
        return np.zeros(0, dtype=bool), ()
    with only_asked(model), _heard() as warnings, torch.random.fork_rng():
        clean = _predicted(model, images, batch_size)
        check_autoattack(clean.shape[1], images.shape[2], images.shape[3], norm)
        found = _examples(model, images, labels, norm, epsilon, int(rng.integers(2**31)), batch_size, clean.shape[1])
        valid = region_around(images, norm, epsilon).project(found)
        moved = _predicted(model, valid, batch_size)
    withstood = (clean.argmax(dim=1) == labels) & (moved.argmax(dim=1) == labels)
    return withstood.cpu().numpy(), tuple(dict.fromkeys(warnings))


def check_autoattack(classes: int, height: int, width: int, norm: Norm) -> None:
    """Raise InputError where there are too few classes for its losses, or pixels for its search."""
    if norm == "l2" and min(height, width) < _LEAST_SIDE:
        raise InputError(
            f"robustness.norm: AutoAttack's Square needs {_LEAST_SIDE} pixels a side for l2, the images have "
            f"{min(height, width)}; set it to linf, or robustness.evaluations to [pgd20]"
        )
    if classes < FEWEST_CLASSES:
        raise InputError(
            f"robustness.evaluations: aa needs {FEWEST_CLASSES} classes or more, the records have {classes}; "
            "set it to [pgd20]"
        )


def _examples(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    epsilon: float,
    seed: int,
    batch_size: int,
    classes: int,
) -> Tensor:
    """The worst example of each record, where one was found, else the record itself."""
    # A second's import, which only this evaluation needs.
    from pyautoattack import AutoAttack

    adversary = AutoAttack(model, norm=_NORMS[norm], eps=epsilon, seed=seed, device=images.device)
    for targeted in (adversary.apgd_targeted, adversary.fab):
        targeted.n_target_classes = min(_MOST_TARGETS, classes - 1)
    tracing = sys.gettrace()
    try:
        found: Tensor = adversary.run_standard_evaluation(images, labels, batch_size=batch_size)[0]
    finally:
        # Its check for dynamic models switches off whatever traced this program.
        sys.settrace(tracing)
    return found


def _predicted(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(part) for part in images.split(batch_size)])


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What it warns of, kept off the console."""
    logger, heard = logging.getLogger(_LOGGER), list[str]()

    class _Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(" ".join(record.getMessage().split(" See flags_doc.md")[0].split()))

    listener, propagate = _Listener(logging.WARNING), logger.propagate
    logger.addHandler(listener)
    logger.propagate = False
    try:
        yield heard
    finally:
        logger.propagate = propagate
        logger.removeHandler(listener)
