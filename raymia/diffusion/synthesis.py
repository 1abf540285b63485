"""What a defense asks of generated images; how they are made is the study's `diffusion` settings."""

from dataclasses import dataclass
from typing import Literal

from raymia.config import DiffusionConfig
from raymia.errors import InputError

LabelRule = Literal["pseudo", "agree", "condition"]
LabelMode = Literal["auto", "pseudo", "agree", "condition"]


@dataclass(frozen=True)
class Synthesis:
    """per_class: images kept of each class, None for the study's. threshold: least confidence of the filter's
    classifier in the label. labels: `pseudo` takes the classifier's class, `agree` keeps an image only where that is
    the class it was drawn for, `condition` trusts the class it was drawn for; `auto` is `agree` for a conditional
    denoiser, else `pseudo`. guidance: w, None for the study's. calibrate: fit the classifier's temperature on a tenth
    of the records, which it then does not train on.
    """

    per_class: int | None
    threshold: float
    labels: LabelMode = "auto"
    guidance: float | None = None
    calibrate: bool = False

    def quota(self, config: DiffusionConfig, classes: int) -> int:
        """Images kept of each class. Raises InputError where so many may not even be drawn."""
        quota = config.per_class if self.per_class is None else self.per_class
        if quota * classes > config.max_images:
            raise InputError(
                f"diffusion.max_images: {config.max_images:,} cannot hold {quota:,} images of each of {classes} "
                "classes; raise it, or lower the images wanted of a class"
            )
        return quota

    def label_rule(self, config: DiffusionConfig) -> LabelRule:
        """How images get their labels. Raises InputError where a denoiser without classes is asked for them."""
        if self.labels == "auto":
            return "agree" if config.conditional else "pseudo"
        if self.labels != "pseudo" and not config.conditional:
            raise InputError(
                f"labels: {self.labels!r} needs the class an image was drawn for, and diffusion.conditional is false; "
                "use pseudo"
            )
        return self.labels

    def guidance_weight(self, config: DiffusionConfig) -> float:
        """w of classifier-free guidance. Raises InputError where the denoiser has no classes to be guided by."""
        weight = config.guidance if self.guidance is None else self.guidance
        if weight and not config.conditional:
            raise InputError(
                f"guidance: {weight:g} needs a class-conditional denoiser; set diffusion.conditional to true, or "
                "guidance to 0"
            )
        if weight and not config.null_probability:
            raise InputError(
                f"guidance: {weight:g} needs a denoiser trained with labels left out; set "
                "diffusion.null_probability above 0"
            )
        return weight
