"""`python -m raymia.clean`: list, then free, the artifacts that no study under the results uses."""

import sys
from collections import Counter
from pathlib import Path

import click

from raymia.commands import run_command
from raymia.errors import InputError
from raymia.store import Store
from raymia.study.lock import is_held
from raymia.study.place import place_of

# In a study's folder; what is made for it later has a list of its own, whose name ends so.
REFERENCES = "artifacts.txt"

Sizes = dict[str, int]


@click.command(name="clean", help="List the trained models and other artifacts that no study uses, and free them.")
@click.option("--results", default="results", show_default=True, help="Where results and trained models are kept.")
@click.option("--yes", is_flag=True, help="Free them without asking.")
def clean(results: str, yes: bool) -> int:
    """The command; see its options."""
    root, store = place_of(results, False)
    _check(results, root, store)
    unused = unused_artifacts(root, store)
    if not unused:
        click.echo("every artifact is used by a study; nothing to free")
        return 0
    _list(unused)
    if not yes and not _somebody_is_there():
        click.echo("nothing freed, since nobody can be asked; --yes frees them")
    elif yes or click.confirm(f"free {_megabytes(unused)}?"):
        # While somebody thought, a study may have begun that uses some of them.
        still = unused_artifacts(root, store)
        freed = {name: size for name, size in unused.items() if name in still}
        for name in freed:
            store.delete(name)
        click.echo(f"freed {_megabytes(freed)}")
    return 0


def unused_artifacts(root: Path, store: Store) -> Sizes:
    """Size in bytes, by name and in their order, of the artifacts that no study folder under `root` refers to."""
    # Before the lists are read: a study lists what it will make before it makes it.
    found = sorted(store.names())
    running = any(is_held(folder) for folder in root.iterdir() if folder.is_dir())
    used: set[str] = set()
    for references in root.glob(f"*/*{REFERENCES}"):
        used |= set(references.read_text(encoding="utf-8").split())

    def is_used(name: str) -> bool:
        return name in used or f"{name.rpartition('/')[0]}/" in used

    return {name: size for name, size in found if not is_used(name) and not _spared(name, running)}


def _check(results: str, root: Path, store: Store) -> None:
    """Raise InputError where there is nothing to free, or no telling what is used."""
    shared = "://" in results
    if shared and not any(root.glob(f"*/*{REFERENCES}")):
        raise InputError(
            f"--results {results}: what its studies use is listed under {root}/ where they were started, and here is "
            "no such list; give this command there"
        )
    if next(store.names(), None) is None:
        raise InputError(f"--results {results}: holds no artifacts; give the folder a study wrote to")
    if shared:
        click.echo(f"only studies under {root.absolute()} count: what studies started elsewhere use is not known here")


def _list(unused: Sizes) -> None:
    counts = Counter(_kind(name) for name in unused)
    for kind, count in sorted(counts.items()):
        of_kind = {name: size for name, size in unused.items() if _kind(name) == kind}
        click.echo(f"{kind:<12} {count:>7,} unused  {_megabytes(of_kind):>13}")


def _kind(name: str) -> str:
    return name.partition("/")[0]


def _megabytes(sizes: Sizes) -> str:
    return f"{sum(sizes.values()) / 1e6:,.1f} MB"


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
