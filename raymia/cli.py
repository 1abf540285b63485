"""`raymia`: one script with the same verbs as the modules."""

import click

import raymia
from raymia.audit import audit
from raymia.clean import clean
from raymia.commands import guarded, leave
from raymia.exposed import exposed
from raymia.memorization import memorization
from raymia.synthesize import synthesize
from raymia.tune import tune
from raymia.verify import verify


@click.group(commands=[tune, verify, exposed, memorization, audit, synthesize, clean])
@click.version_option(raymia.__version__, prog_name="raymia")
def cli() -> None:
    """Measure, defend and search the membership privacy of image classifiers."""


def main() -> None:
    """Entry point of the `raymia` script."""
    leave(guarded(lambda: cli.main(standalone_mode=False, prog_name="raymia")))
