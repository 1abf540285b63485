"""How every command speaks and ends: one clear line for an error, exit code 2 for bad input, 1 for a failed run."""

import sys
from collections.abc import Callable

import click

from raymia.errors import RaymiaError

INTERRUPTED = 130


def run_command(command: click.Command, arguments: list[str] | None = None) -> None:
    """Run a click command and exit."""
    sys.exit(guarded(lambda: command.main(arguments, standalone_mode=False, prog_name=f"raymia {command.name}")))


def guarded(call: Callable[[], int | None]) -> int:
    """The call's exit code, errors turned into one line on stderr."""
    try:
        return call() or 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return _say(error.format_message(), 2)
    except RaymiaError as error:
        return _say(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted; what was finished is kept, and the same command goes on from there", INTERRUPTED)


def _say(message: str, code: int) -> int:
    click.echo(f"raymia: {' '.join(message.split())}", err=True)
    return code
