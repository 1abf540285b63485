"""`python -m raymia.clean`: list, then free, the artifacts that no study under the results uses."""

import sys
from collections import Counter
from pathlib import Path

import click

from raymia.commands import run_command
from raymia.errors import InputError
from raymia.store import Store
from raymia.study.lock import is_held

# In a study's folder; what is made for it later has a list of its own, whose name ends so.
REFERENCES = "artifacts.txt"


@click.command(name="clean", help="List the trained models and other artifacts that no study uses, and free them.")
@click.option("--results", default="results", show_default=True, help="Where results and trained models are kept.")
@click.option("--yes", is_flag=True, help="Free them without asking.")
def clean(results: str, yes: bool) -> int:
    """The command; see its options."""
    root = Path(results)
    if not (root / "artifacts").is_dir():
        raise InputError(f"--results {results}: holds no artifacts; give the folder a study wrote to")
    store = Store(str(root / "artifacts"))
    unused = unused_artifacts(root, store)
    if not unused:
        click.echo("every artifact is used by a study; nothing to free")
        return 0
    counts = Counter(name.partition("/")[0] for name, _ in unused)
    total = sum(size for _, size in unused)
    for kind, count in sorted(counts.items()):
        size = sum(size for name, size in unused if name.partition("/")[0] == kind)
        click.echo(f"{kind:<12} {count:>7,} unused  {size / 1e6:>10,.1f} MB")
    if not yes and not _somebody_is_there():
        click.echo("nothing freed, since nobody can be asked; --yes frees them")
    elif yes or click.confirm(f"free {total / 1e6:,.1f} MB?"):
        for name, _ in unused:
            store.delete(name)
        click.echo(f"freed {total / 1e6:,.1f} MB")
    return 0


def unused_artifacts(root: Path, store: Store) -> list[tuple[str, int]]:
    """Name and size in bytes of each artifact that no study folder under `root` refers to."""
    used: set[str] = set()
    for references in root.glob(f"*/*{REFERENCES}"):
        used |= set(references.read_text(encoding="utf-8").split())
    running = any(is_held(folder) for folder in root.iterdir() if folder.is_dir())

    def is_used(name: str) -> bool:
        return name in used or f"{name.rpartition('/')[0]}/" in used

    return sorted((name, size) for name, size in store.names() if not is_used(name) and not _spared(name, running))


def _somebody_is_there() -> bool:
    return sys.stdin.isatty()


def _spared(name: str, running: bool) -> bool:
    """What no study lists and still stays: what is known of data files, what a running study is writing just now."""
    kind, _, rest = name.partition("/")
    half_written = rest.rpartition("/")[2].startswith(".")
    return kind == "facts" or (running and (half_written or kind == "probes"))


def main() -> None:
    """Entry point of `python -m raymia.clean`."""
    run_command(clean)


if __name__ == "__main__":
    main()
