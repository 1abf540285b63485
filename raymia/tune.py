"""`python -m raymia.tune`: search the privacy–utility frontier of a space of defenses."""

import click

from raymia.commands import run_command
from raymia.config import build_config
from raymia.errors import InputError
from raymia.space import Space, custom_space, with_search
from raymia.space_files import list_spaces, load_space
from raymia.yaml_files import parse_assignment


@click.command(name="tune", help="Search the privacy–utility frontier of a space of defenses.")
@click.option("--space", help="A name in tune_configs/ or the path of a YAML file.  [default: mixup_alpha]")
@click.option("--list-spaces", "listing", is_flag=True, help="Show the built-in spaces and stop.")
@click.option(
    "--dataset", help="digits, cifar10, cifar100, a Parquet file or folder, or a class-per-folder image folder."
)
@click.option("--model", help="cnn, mlp, resnet18, vgg11 or package.module:function.")
@click.option("--train", help="Your own training, package.module:function(images, labels, seed) -> model.")
@click.option("--preset", help="A name in tune_configs/presets/ or the path of a YAML file.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="E.g. training.epochs=30; repeatable.")
@click.option("--search", type=click.Choice(["grid", "random", "optuna"]), help="How settings are picked.")
@click.option("--samples", type=click.IntRange(min=1), help="How many settings random or optuna tries.")
@click.option("--seed", type=click.IntRange(min=0), help="The study's seed.")
@click.option("--results", default="results", show_default=True, help="Where results and trained models are kept.")
@click.option("--name", help="Name of the study's folder under --results.")
@click.option("--tracking-uri", help="MLflow's address.  [default: SQLite under --results]")
@click.option("--address", help="A running Ray cluster to join.  [default: RAY_ADDRESS, else this machine]")
@click.option("--dry-run", is_flag=True, help="Say what it would cost, and stop.")
@click.option("--fresh", is_flag=True, help="Train everything anew instead of reusing.")
@click.option("--quiet", is_flag=True, help="No live view.")
def tune(
    space: str | None,
    listing: bool,
    dataset: str | None,
    model: str | None,
    train: str | None,
    preset: str | None,
    assignments: tuple[str, ...],
    search: str | None,
    samples: int | None,
    seed: int | None,
    results: str,
    name: str | None,
    tracking_uri: str | None,
    address: str | None,
    dry_run: bool,
    fresh: bool,
    quiet: bool,
) -> int:
    """The command; see its options."""
    if listing:
        for known in list_spaces():
            click.echo(f"{known.name:<18} {known.description}")
        return 0
    overrides = dict(parse_assignment(text) for text in assignments)
    given = {"data.dataset": dataset, "model.name": model, "seed": seed}
    overrides |= {key: value for key, value in given.items() if value is not None}
    config = build_config(preset, overrides)
    chosen = with_search(_space(space, train), search, samples)
    if samples is not None and chosen.search.method == "grid":
        raise InputError("--samples: a grid tries all its values; add --search random or --search optuna")
    if not results:
        raise InputError("--results: is empty; give a folder")
    # Torch, Ray and the rest take seconds to load: the command line is checked before.
    from raymia.study.session import Session

    return Session(config, chosen, results, name, tracking_uri, address, fresh, quiet).run(dry_run)


def _space(name: str | None, train: str | None) -> Space:
    if train is None:
        return load_space(name or "mixup_alpha")
    if name is not None:
        raise InputError("--train measures your own training: it takes no --space; leave one of them out")
    return custom_space(train)


def main() -> None:
    """Entry point of `python -m raymia.tune`."""
    run_command(tune)


if __name__ == "__main__":
    main()
