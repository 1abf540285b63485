"""What every stream of Ray Data needs here: a quiet console, bounded retries, and an error in one line."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import RayError

from raymia.errors import RaymiaError, RunError

RETRIES = 3  # of a worker that dies; Ray Data's own number is infinite, so bytes that crash a decoder would never end


@contextmanager
def quiet_ray_data() -> Iterator[None]:
    """Keep Ray Data's plans, advice and tracebacks off the console (no setting does); errors are raised."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def retries_of_a_stage() -> Iterator[None]:
    """Let `max_retries` be given to a stage: Ray 2.60 has no other way to bound them, and warns of this one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        yield


def one_line(error: RayError, doing: str) -> RaymiaError:
    """What went wrong in a worker, without the lines of advice that Ray adds: our own errors as they are."""
    cause = getattr(error, "cause", None) or error
    reason = (str(cause).splitlines() or ["no reason given"])[0]
    if isinstance(cause, RaymiaError):
        return type(cause)(reason)
    return RunError(f"a worker failed while it {doing}: {type(cause).__name__}: {reason}")
