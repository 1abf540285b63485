"""`python -m raymia.conformance`: hold raymia's attacks, or another tool's, against golden arrays and scores."""

from pathlib import Path

import click

from raymia.commands import run_command
from raymia.errors import InputError


@click.command(
    name="conformance",
    help="Hold the attacks of raymia, or of another tool, against golden arrays with expected scores.\n\nWithout an "
    "option raymia's own attacks are checked. Exit code 1 where an attack fails.",
)
@click.option("--out", metavar="FOLDER", help="Write the golden arrays, the expected scores and how to use them.")
@click.option(
    "--check",
    metavar="FILE",
    help="Scores of another tool: Parquet, CSV (id, a column an attack) or npz (an array an attack).",
)
def conformance(out: str | None, check: str | None) -> int:
    """The command; see its options."""
    if out is not None and check is not None:
        raise InputError("--out and --check: give one of the two")
    if check is not None and not Path(check).is_file():
        raise InputError(f"--check {check}: there is no such file; correct the path")
    if out is not None and Path(out).exists() and not Path(out).is_dir():
        raise InputError(f"--out {out}: is a file; give a folder")
    # SciPy, torch and the rest take seconds to load: the command line is checked before.
    from raymia.conformance.session import check_scores, publish

    return publish(Path(out)) if out is not None else check_scores(None if check is None else Path(check))


def main() -> None:
    """Entry point of `python -m raymia.conformance`."""
    run_command(conformance)


if __name__ == "__main__":
    main()
