"""`python -m raymia.exposed`: the records of a finished study that its attacks find most surely."""

from pathlib import Path

import click

from raymia.commands import run_command
from raymia.errors import InputError


@click.command(name="exposed", help="List the records of a finished study that its attacks find most surely.")
@click.argument("study")
@click.option("--attack", help="Whose scores.  [default: each setting's worst attack]")
@click.option("--top", type=click.IntRange(min=1), default=24, show_default=True, help="How many to show as pictures.")
@click.option("--results", default="results", show_default=True, help="Where results and trained models are kept.")
def exposed(study: str, attack: str | None, top: int, results: str) -> int:
    """STUDY: the name of its folder under --results."""
    if not results:
        raise InputError("--results: is empty; give a folder")
    # Torch takes seconds to load: the command line is checked before.
    from raymia.study.exposure import find_exposed, write_exposed
    from raymia.study.place import place_of

    local, store = place_of(results, False)
    folder = Path(local) / study
    for path in write_exposed(find_exposed(folder, store, attack), folder, top):
        click.echo(str(path))
    return 0


def main() -> None:
    """Entry point of `python -m raymia.exposed`."""
    run_command(exposed)


if __name__ == "__main__":
    main()
