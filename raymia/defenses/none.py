"""No defense: the undefended model that every other is compared with."""

from typing import ClassVar

from pydantic.dataclasses import dataclass

from raymia.training.defense import Defense


@dataclass(frozen=True)
class Undefended(Defense):
    """Plain training on the members."""

    name: ClassVar[str] = "none"
    per_sample: ClassVar[bool] = True
