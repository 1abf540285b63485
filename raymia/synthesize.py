"""`python -m raymia.synthesize`: train a diffusion model and draw a labeled, filtered set of images from it."""

import click

from raymia.commands import run_command
from raymia.config import build_config
from raymia.errors import InputError
from raymia.yaml_files import parse_assignment


@click.command(name="synthesize", help="Train a diffusion model and draw a labeled, filtered set of images from it.")
@click.option(
    "--dataset", help="digits, cifar10, cifar100, a Parquet file or folder, or a class-per-folder image folder."
)
@click.option("--preset", help="A name in tune_configs/presets/ or the path of a YAML file.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="E.g. diffusion.iterations=50000; repeatable."
)
@click.option("--per-class", type=click.IntRange(min=1), help="Images to keep of each class.")
@click.option("--threshold", type=float, help="Least confidence of the filter's classifier.  [default: 0.85]")
@click.option(
    "--labels",
    type=click.Choice(["auto", "pseudo", "agree", "condition"]),
    help="Where labels come from.  [default: auto]",
)
@click.option("--guidance", type=float, help="Classifier-free guidance w (scale 1 + w).")
@click.option("--calibrate", is_flag=True, help="Fit the classifier's temperature on records kept from it.")
@click.option(
    "--target",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Learn the members of this target model of a study, so that others remain to judge the images by.",
)
@click.option("--all-records", is_flag=True, help="Learn every record; then nothing remains to judge the images by.")
@click.option("--out", help="Folder for the images.  [default: under --results]")
@click.option("--seed", type=click.IntRange(min=0), help="The study's seed.")
@click.option("--results", default="results", show_default=True, help="Where results and trained models are kept.")
@click.option("--address", help="A running Ray cluster to join.  [default: RAY_ADDRESS, else this machine]")
@click.option("--fresh", is_flag=True, help="Make everything anew instead of reusing.")
@click.option("--quiet", is_flag=True, help="No live view.")
def synthesize(
    dataset: str | None,
    preset: str | None,
    assignments: tuple[str, ...],
    per_class: int | None,
    threshold: float | None,
    labels: str | None,
    guidance: float | None,
    calibrate: bool,
    target: int,
    all_records: bool,
    out: str | None,
    seed: int | None,
    results: str,
    address: str | None,
    fresh: bool,
    quiet: bool,
) -> int:
    """The command; see its options."""
    overrides = dict(parse_assignment(text) for text in assignments)
    overrides |= {key: value for key, value in {"data.dataset": dataset, "seed": seed}.items() if value is not None}
    config = build_config(preset, overrides)
    if not results:
        raise InputError("--results: is empty; give a folder")
    given = {"threshold": threshold, "per_class": per_class, "labels": labels, "guidance": guidance}
    wanted = {name: value for name, value in given.items() if value is not None} | {"calibrate": calibrate}
    # Torch, Ray and the rest take seconds to load: the command line is checked before.
    from raymia.study.synthesis import SynthesisSession

    chosen = None if all_records else target
    return SynthesisSession(config, wanted, chosen, results, out, address, fresh, quiet).run()


def main() -> None:
    """Entry point of `python -m raymia.synthesize`."""
    run_command(synthesize)


if __name__ == "__main__":
    main()
