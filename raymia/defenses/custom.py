"""The user's own training in a defense's place: whatever it does to hide its members is its own affair."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic.dataclasses import dataclass

from raymia.training.defense import Defense, Stage


@dataclass(frozen=True)
class CustomTraining(Defense):
    """Models come from `function`, named `package.module:function`, called with (images, labels, seed).

    images: uint8[n, H, W, channels] (or float32[n, F] features), labels: int64[n], seed: int. It returns a
    `torch.nn.Module` that maps float images [B, channels, H, W] in [0, 1] (or features) to logits.
    """

    function: str

    name: ClassVar[str] = "custom"
    stages: ClassVar[Mapping[str, Stage]] = {"function": Stage.DATA}
    sole: ClassVar[frozenset[str]] = frozenset({"training"})
