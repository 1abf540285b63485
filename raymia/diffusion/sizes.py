"""What images a denoiser can be built for, found without loading the library that builds it."""

from raymia.config import DiffusionConfig
from raymia.errors import InputError


def check_sides(config: DiffusionConfig, height: int, width: int) -> None:
    """Raise InputError where the denoiser's network cannot take images of these sides."""
    if config.channels[0] < 2:
        raise InputError("diffusion.channels must begin with 2 or more: fewer cannot hold a timestep")
    levels = len(config.channels)
    factor = 2 ** (levels - 1)
    if height % factor or width % factor:
        most = 1 + min((side & -side).bit_length() - 1 for side in (height, width))
        raise InputError(
            f"diffusion.channels has {levels} resolutions, so image sides must be multiples of {factor}, and these "
            f"images are {height}×{width}: give it at most {most}"
        )
