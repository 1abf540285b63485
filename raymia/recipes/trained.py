"""A finished model, ready to be asked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from raymia.adversarial import Attack, raise_loss
from raymia.training.defense import Composed
from raymia.training.rows import StoredInputs, as_pixels, taken

_ANSWER_BATCH = 256
_GRADIENT_NUMBERS = 2**26
"""Numbers of per-record gradients in memory at once."""


@dataclass(frozen=True)
class TrainedModel:
    """A finished model, in eval mode and float32 whatever it was trained in: coarse logits would tie scores.

    fitted: what its defenses fitted to it (`Composed.fit`).
    """

    model: nn.Module
    defense: Composed
    device: torch.device
    fitted: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def answer(self, batch: Tensor) -> Tensor:
        """float32[B, K]: what the released model answers to a batch in pixel units, on its device."""
        # Not inference mode: a defense that answers by an optimization needs gradients of its own.
        with torch.no_grad():
            return self.defense.release(self.model, batch, self.fitted).float()

    def logits(self, inputs: NDArray[Any] | StoredInputs) -> NDArray[np.float32]:
        """float32[n, K]: what the released model answers to uint8 images [n, H, W, channels] or float32[n, F]."""
        return np.concatenate([self.answer(batch).cpu().numpy() for batch, _ in self._batches(inputs, _ANSWER_BATCH)])

    def adversarial_logits(
        self, inputs: NDArray[Any], labels: NDArray[np.int64], attack: Attack, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """float32[n, K]: what the released model answers to adversarial examples of uint8 images [n, H, W, channels].

        Crafted with the weights of the model itself; rng: of the starts.
        """
        answers = []
        for batch, rows in self._batches(inputs, _ANSWER_BATCH):
            wanted = torch.from_numpy(labels[rows]).to(self.device)
            answers.append(self.answer(raise_loss(self.model, batch, wanted, attack, rng)).cpu().numpy())
        return np.concatenate(answers)

    def gradient_norms(self, inputs: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64[n]: the Euclidean norm of the cross entropy's gradient by all weights, record by record.

        Of the model itself: whoever sees its weights does not depend on what its release makes of the answers.
        """
        weights = {name: value.detach() for name, value in self.model.named_parameters()}
        buffers = dict(self.model.named_buffers())

        def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
            logits = functional_call(self.model, (weights, buffers), (image[None],))
            return functional.cross_entropy(logits.float(), label[None])

        gradients = vmap(grad(loss), in_dims=(None, 0, 0))
        size = max(1, _GRADIENT_NUMBERS // sum(value.numel() for value in weights.values()))
        norms = []
        for batch, rows in self._batches(inputs, min(size, _ANSWER_BATCH)):
            found = gradients(weights, batch, torch.from_numpy(labels[rows]).to(self.device))
            squares = torch.stack([one.double().flatten(1).square().sum(dim=1) for one in found.values()])
            norms.append(squares.sum(dim=0).sqrt().cpu().numpy())
        return np.concatenate(norms) if norms else np.zeros(0)

    def _batches(self, inputs: NDArray[Any] | StoredInputs, size: int) -> Iterator[tuple[Tensor, slice]]:
        for start in range(0, len(inputs), size):
            rows = slice(start, start + size)
            batch = torch.from_numpy(taken(inputs, np.arange(len(inputs))[rows])).to(self.device)
            yield as_pixels(batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch), rows
