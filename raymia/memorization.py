"""`python -m raymia.memorization`: whether a finished study's defenses protect the records that are memorized."""

import click

from raymia.commands import run_command
from raymia.errors import InputError


@click.command(name="memorization", help="Show a finished study's leakage by how far its records are memorized.")
@click.argument("study")
@click.option(
    "--references",
    type=int,
    default=32,
    show_default=True,
    help="Undefended models to score each target's records by, a multiple of 16.",
)
@click.option(
    "--bins", type=int, default=5, show_default=True, help="Bins of scores: up to 0, then even ones; 21 are DeMem's."
)
@click.option("--fpr", type=float, help="False positive rate of the threshold.  [default: the lowest resolved]")
@click.option("--attack", help="Whose scores.  [default: each setting's worst attack]")
@click.option("--results", default="results", show_default=True, help="Where results and trained models are kept.")
@click.option("--address", help="A running Ray cluster to join.  [default: RAY_ADDRESS, else this machine]")
@click.option("--quiet", is_flag=True, help="No live view.")
def memorization(
    study: str,
    references: int,
    bins: int,
    fpr: float | None,
    attack: str | None,
    results: str,
    address: str | None,
    quiet: bool,
) -> int:
    """STUDY: the name of its folder under --results."""
    if not results:
        raise InputError("--results: is empty; give a folder")
    # Torch, Ray and the rest take seconds to load.
    from raymia.study.memorization import MemorizationSession

    return MemorizationSession(study, references, bins, fpr, attack, results, address, quiet).run()


def main() -> None:
    """Entry point of `python -m raymia.memorization`."""
    run_command(memorization)


if __name__ == "__main__":
    main()
