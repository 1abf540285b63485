"""VGG-11 for small images (Simonyan, Zisserman 2015, arXiv 1409.1556, configuration A)."""

from torch import nn

from raymia.errors import InputError
from raymia.models.checks import image_shape, positive_int
from raymia.models.initialization import he_initialize

# Multiples of the width, "pool" between them: 64, pool, 128, pool, 256, 256, pool, 512, 512, pool, 512, 512, pool.
LAYERS: tuple[int | str, ...] = (1, "pool", 2, "pool", 4, 4, "pool", 8, 8, "pool", 8, 8, "pool")


def vgg11(input_shape: tuple[int, ...], classes: int, *, width: int = 64, batch_norm: bool = True) -> nn.Module:
    """VGG-11's eight convolutions, global average pooling, then one linear layer. width: channels of the first one."""
    channels, _, _ = image_shape("vgg11", input_shape)
    positive_int("vgg11", "width", width)
    if not isinstance(batch_norm, bool):
        raise InputError(f"model.options.batch_norm of vgg11 must be true or false, got {batch_norm!r}")
    layers: list[nn.Module] = []
    for layer in LAYERS:
        if isinstance(layer, str):
            # Rounding up keeps a map of one pixel alive, so 8×8 images pass five poolings.
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            continue
        layers.append(nn.Conv2d(channels, layer * width, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(layer * width))
        layers.append(nn.ReLU(inplace=True))
        channels = layer * width
    return he_initialize(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)))
