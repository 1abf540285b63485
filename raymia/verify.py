"""`python -m raymia.verify`: train a finished study's best settings anew and attack them with all there is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from raymia.commands import run_command
from raymia.errors import InputError


@click.command(name="verify", help="Train a finished study's best settings anew and attack them with all there is.")
@click.argument("study")
@click.option(
    "--references", type=click.IntRange(min=16), default=16, show_default=True, help="Reference models a target."
)
@click.option("--targets", type=click.IntRange(min=1), help="Fresh target models a setting.  [default: as the study]")
@click.option("--results", default="results", show_default=True, help="Where results and trained models are kept.")
@click.option("--tracking-uri", help="MLflow's address.  [default: SQLite under --results]")
@click.option("--address", help="A running Ray cluster to join.  [default: RAY_ADDRESS, else this machine]")
@click.option("--dry-run", is_flag=True, help="Say what it would cost, and stop.")
@click.option("--fresh", is_flag=True, help="Train everything anew instead of reusing.")
@click.option("--quiet", is_flag=True, help="No live view.")
def verify(
    study: str,
    references: int,
    targets: int | None,
    results: str,
    tracking_uri: str | None,
    address: str | None,
    dry_run: bool,
    fresh: bool,
    quiet: bool,
) -> int:
    """STUDY: the name of its folder under --results."""
    if references % 16:
        raise InputError(f"--references {references}: they come in blocks of 16; give {references // 16 * 16 + 16}")
    # Torch, Ray and the rest take seconds to load: the command line is checked before.
    from raymia.metrics.verification import verified_settings
    from raymia.report.verification import verification_table
    from raymia.study.place import place_of
    from raymia.study.session import Session
    from raymia.study.verification import plan_verification, write_verification
    from raymia.tracking_records import VERIFIES_TAG

    local, _ = place_of(results, False)
    plan = plan_verification(local / study, references, targets)
    shown: list[Any] = []

    def more(folder: Path, rows: Sequence[Any]) -> list[Path]:
        shown.append(verification_table(verified_settings(plan.searched, rows), plan.records, plan.config.plan.targets))
        return write_verification(plan, folder, rows)

    tags = {VERIFIES_TAG: plan.of}
    session = Session(plan.config, plan.space, results, plan.name, tracking_uri, address, fresh, quiet, tags, more)
    code = session.run(dry_run)
    for table in shown:
        session.console.print(table)
    return code


def main() -> None:
    """Entry point of `python -m raymia.verify`."""
    run_command(verify)


if __name__ == "__main__":
    main()
