"""The denoiser: a UNet that predicts the noise in an image, given how noisy it is and which class it shows."""

import contextlib
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from raymia.config import DiffusionConfig
from raymia.diffusion.sizes import check_sides

# As in Ho et al. 2020: 32 groups of 128 channels. With one channel a group, the norm after the embedding of timestep
# and label, one number a channel, would take it out again.
_MOST_GROUPS = 32
_FEWEST_CHANNELS_A_GROUP = 4


class Denoiser(nn.Module):
    """ε_θ(x_t, t, c) of Ho et al. 2020, with or without a class c.

    net: called as UNet2DModel is. input_shape: (C, H, W). classes: K; label K stands for no label. conditional:
    whether labels are looked at.
    """

    def __init__(self, net: nn.Module, input_shape: tuple[int, int, int], classes: int, conditional: bool) -> None:
        super().__init__()
        self.net = net
        self.input_shape = input_shape
        self.classes = classes
        self.conditional = conditional

    @property
    def null_label(self) -> int:
        """The label that stands for no label."""
        return self.classes

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        """The predicted noise float32[B, C, H, W].

        noisy: float[B, C, H, W], images x_t of a process whose clean images lie in [-1, 1]. timesteps: int64[B].
        labels: int64[B], 0 to K.
        """
        noise: Tensor = self.net(noisy, timesteps, labels if self.conditional else None, return_dict=False)[0]
        return noise.float()


def build_denoiser(config: DiffusionConfig, input_shape: tuple[int, int, int], classes: int) -> Denoiser:
    """An untrained denoiser, from torch's global random state.

    input_shape: (C, H, W). classes: K. Each attention has one head, as in Ho et al. 2020; the middle of the network has
    one too, unless no resolution has. Raises InputError for images whose sides cannot be halved so often.
    """
    channels, height, width = input_shape
    check_sides(config, height, width)
    levels = range(len(config.channels))
    net = UNet2DModel(
        sample_size=(height, width),
        in_channels=channels,
        out_channels=channels,
        block_out_channels=config.channels,
        layers_per_block=config.blocks,
        down_block_types=tuple("AttnDownBlock2D" if level in config.attention else "DownBlock2D" for level in levels),
        up_block_types=tuple(
            "AttnUpBlock2D" if level in config.attention else "UpBlock2D" for level in reversed(levels)
        ),
        add_attention=bool(config.attention),
        attention_head_dim=None,
        dropout=config.dropout,
        norm_num_groups=_groups(config.channels),
        num_class_embeds=classes + 1 if config.conditional else None,
    )
    return Denoiser(net, input_shape, classes, config.conditional)


def _groups(channels: tuple[int, ...]) -> int:
    """The most groups that divide every channel count and are not too small."""
    most = min(_MOST_GROUPS, min(channels) // _FEWEST_CHANNELS_A_GROUP)
    return next((groups for groups in range(most, 1, -1) if not any(count % groups for count in channels)), 1)


def placed(denoiser: Denoiser, device: torch.device) -> Denoiser:
    """The denoiser on a device, in the memory layout that runs fastest there."""
    # On CPUs channel-last slows a UNet by 3 to 35%: its group norms and concatenations lose what convolutions win.
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    return denoiser.to(device).to(memory_format=layout)


def computing(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Within it networks compute in `fp32` or `bf16`."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()


def as_signal(images: Tensor) -> Tensor:
    """uint8[B, C, H, W] as the float32 images in [-1, 1] that the process starts from."""
    return images.float().div_(127.5).sub_(1.0)


def as_images(signal: Tensor) -> Tensor:
    """The inverse of `as_signal`, clipped and rounded."""
    return signal.clamp(-1.0, 1.0).add(1.0).mul(127.5).round().to(torch.uint8)
