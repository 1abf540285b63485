"""How a build ended, as a value that travels between processes."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from raymia.errors import DivergedError, InputError, ShortfallError

# Deterministic: trying again would fail again.
_FINAL = (DivergedError, InputError, ShortfallError)


@dataclass(frozen=True)
class Failure:
    """Why a recipe could not be built. retry: whether another try may succeed."""

    message: str
    detail: str
    retry: bool


def guarded(build: Callable[[], None]) -> Failure | None:
    """Run a build; an error that another try would meet again comes back as a value, others are raised."""
    try:
        build()
    except _FINAL as error:
        return Failure(str(error), "", retry=False)
    return None


def failure(error: Exception) -> Failure:
    """An error that another try may not meet, in one line and in full."""
    cause = getattr(error, "cause", None) or error
    line = " ".join(f"{type(cause).__name__}: {cause}".split())[:500]
    return Failure(line, "".join(traceback.format_exception(error)), retry=True)
