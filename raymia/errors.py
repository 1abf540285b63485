"""The failures raymia tells apart, and the exit code of each."""


class RaymiaError(Exception):
    """A failure with one clear line for the person at the terminal."""

    exit_code = 1


class InputError(RaymiaError):
    """Something the user gave cannot be used: the message names the setting and the remedy.

    Raised before anything trains or is written; the commands exit with code 2.
    """

    exit_code = 2


class RunError(RaymiaError):
    """Something failed while the study ran; what was finished is kept (exit code 1)."""


class DivergedError(RunError):
    """Training left the finite numbers. Deterministic, so never retried."""


class ShortfallError(RunError):
    """A generator gives too few images that pass the filter; the message says of which classes, and the remedy."""
