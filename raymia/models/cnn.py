"""A small convolutional network for images of about 8×8 to 32×32."""

from collections.abc import Sequence

from torch import nn

from raymia.models.checks import image_shape, positive_ints
from raymia.models.initialization import he_initialize


def cnn(input_shape: tuple[int, ...], classes: int, *, widths: Sequence[int] = (32, 64, 128)) -> nn.Module:
    """Three 3×3 convolutions with BatchNorm, pooled by two after the first and the second, then one linear layer."""
    channels, _, _ = image_shape("cnn", input_shape)
    first, second, third = positive_ints("cnn", "widths", widths, count=3)
    return he_initialize(
        nn.Sequential(
            *_convolution(channels, first),
            nn.MaxPool2d(2, ceil_mode=True),
            *_convolution(first, second),
            nn.MaxPool2d(2, ceil_mode=True),
            *_convolution(second, third),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(third, classes),
        )
    )


def _convolution(channels_in: int, channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]
