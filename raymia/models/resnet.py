"""ResNet-18 with the CIFAR stem (He, Zhang, Ren, Sun 2016, arXiv 1512.03385)."""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from raymia.models.checks import image_shape, positive_int
from raymia.models.initialization import he_initialize

BLOCKS_PER_STAGE = 2


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = functional.relu(self.norm1(self.conv1(inputs)))
        return functional.relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


def resnet18(input_shape: tuple[int, ...], classes: int, *, width: int = 64) -> nn.Module:
    """ResNet-18 for small images: a 3×3 stem without pooling, then stages of width, 2, 4 and 8 times width channels."""
    channels, _, _ = image_shape("resnet18", input_shape)
    positive_int("resnet18", "width", width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(channels, width, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(width),
        relu=nn.ReLU(inplace=True),
    )
    previous = width
    for stage in range(4):
        current = width * 2**stage
        blocks = [BasicBlock(previous, current, stride=1 if stage == 0 else 2)]
        blocks += [BasicBlock(current, current, stride=1) for _ in range(BLOCKS_PER_STAGE - 1)]
        layers[f"stage{stage + 1}"] = nn.Sequential(*blocks)
        previous = current
    layers |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "linear": nn.Linear(previous, classes)}
    return he_initialize(nn.Sequential(layers))
