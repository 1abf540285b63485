"""How convolutions start."""

from torch import nn


def he_initialize(net: nn.Module) -> nn.Module:
    """Draw every convolution's weights by He et al. 2015 (arXiv 1502.01852, fan in, ReLU), biases 0; the rest stays.

    PyTorch's own start shrinks the signal layer by layer, and plain VGG-11 (no BatchNorm) then does not learn at all.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net
