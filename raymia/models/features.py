"""A classifier as an encoder of images: what its last linear layer is given."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from raymia.errors import InputError
from raymia.models.classifier import Classifier, last_linear

_BATCH = 512


def features(
    classifier: Classifier, inputs: NDArray[np.uint8] | NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """float32[n, d]: the input of the last linear layer, for each record, in eval mode.

    inputs: uint8[n, H, W, C] images or float32[n, F] vectors. The classifier is moved to the device and stays there;
    its mode and weights stay as they were. Raises InputError for no records, and for a network whose last linear
    layer is missing or is not given one vector for each record.
    """
    if not len(inputs):
        raise InputError("features: no records; give at least one")
    layer = _readout(classifier)
    seen: list[torch.Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    was_training = classifier.training
    classifier.to(device).eval()
    found = []
    try:
        with torch.no_grad():
            for start in range(0, len(inputs), _BATCH):
                batch = _batch(inputs[start : start + _BATCH], device)
                seen.clear()
                classifier(batch)
                found.append(_only(seen, len(batch)))
    finally:
        hook.remove()
        classifier.train(was_training)
    return np.concatenate(found)


def _readout(classifier: Classifier) -> nn.Linear:
    try:
        return last_linear(classifier)
    except InputError as error:
        raise InputError(
            f"model {type(classifier.net).__name__} has no linear layer with {classifier.classes} outputs, so it has "
            "no features: end the network in nn.Linear"
        ) from error


def _batch(inputs: NDArray[Any], device: torch.device) -> torch.Tensor:
    batch = torch.from_numpy(np.array(inputs)).to(device)
    batch = batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch
    return batch.float().div_(255.0) if batch.dtype == torch.uint8 else batch


def _only(seen: list[torch.Tensor], records: int) -> NDArray[np.float32]:
    """The layer's one input as float32[records, d]."""
    if len(seen) != 1 or seen[0].ndim != 2 or len(seen[0]) != records:
        shapes = [list(each.shape) for each in seen]
        raise InputError(
            f"the model's last linear layer is given {shapes} for {records} records: a network whose features can be "
            "read gives it one vector a record, once"
        )
    values: NDArray[np.float32] = seen[0].float().cpu().numpy()
    return values
