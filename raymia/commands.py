"""How every command speaks and ends: one clear line for an error, exit code 2 for bad input, 1 for a failed run."""

import atexit
import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import click

from raymia.errors import RaymiaError

INTERRUPTED = 130
_FULL = (errno.ENOSPC, errno.EDQUOT)


def run_command(command: click.Command, arguments: list[str] | None = None) -> None:
    """Run a click command and exit."""
    leave(guarded(lambda: command.main(arguments, standalone_mode=False, prog_name=f"raymia {command.name}")))


def leave(code: int) -> NoReturn:
    """End the process; after Ctrl-C at once, since taking Python and its libraries down has been seen to take 9 s."""
    if code == INTERRUPTED:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def guarded(call: Callable[[], int | None]) -> int:
    """The call's exit code, errors turned into one line on stderr."""
    _see_working_folder()
    try:
        return call() or 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return _say(error.format_message(), 2)
    except RaymiaError as error:
        return _say(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted; what was finished is kept, and the same command goes on from there", INTERRUPTED)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        return _say(f"{error.filename or 'the disk'}: {error.strerror}; free some space and give the same command", 1)


def _see_working_folder() -> None:
    """Let the user's modules be imported from the working folder by the `raymia` script too, as `python -m` does."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())


def _say(message: str, code: int) -> int:
    click.echo(f"raymia: {' '.join(message.split())}", err=True)
    return code
