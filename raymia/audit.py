"""`python -m raymia.audit`: attack a model of your own, or only its answers."""

from collections.abc import Mapping
from pathlib import Path

import click

from raymia.commands import run_command
from raymia.errors import InputError

_WITH_MODEL = ("checkpoint", "members", "nonmembers")
_ONLY_MODEL = (*_WITH_MODEL, "population", "classes", "queries")


_HELP = """Attack a model of your own, or only its answers.

Give --signals, or --model with --checkpoint, --members and --nonmembers.

\b
Arrays of an npz file (N records, Q queries of each, C classes, M references):
  target_logits [N, C] or [N, Q, C], labels [N], member [N]
  reference_logits [M, N, C] or [M, N, Q, C], reference_member [M, N]
  shadow_logits, shadow_labels, shadow_member
  population_logits, population_labels, population_reference_logits
  id [N]
The first three are needed; each of the others lets more attacks run.

\b
Columns of a Parquet file, one row a record:
  logits (lists, or lists of lists), or logits_0, logits_1, ...
  label, member
  reference_logits, reference_member (lists over the references), id
  role: target, shadow or population, where not all are targets

Exit codes: 0; 1 where an attack fails; 2 for bad input; 3 where --fail-if stops a release.
"""


@click.command(name="audit", help=_HELP, short_help="Attack a model of your own, or only its answers.")
@click.option("--signals", metavar="FILE", help="Answers: an npz or Parquet file.")
@click.option("--probabilities", is_flag=True, help="The answers are probabilities: take their logarithms.")
@click.option(
    "--equalize-references",
    is_flag=True,
    help="Drop references at random until every record is IN, and OUT, equally many.",
)
@click.option("--model", help="Ask the model itself: package.module:function(input_shape, classes) -> module.")
@click.option("--checkpoint", metavar="FILE", help="Its weights, as torch.save(model.state_dict()) writes them.")
@click.option("--members", metavar="DATA", help="Records it was trained on: Parquet, or an image folder.")
@click.option("--nonmembers", metavar="DATA", help="Records like these that it was not trained on.")
@click.option("--population", metavar="DATA", help="Further such records, for attacks that learn from some.")
@click.option("--classes", type=click.IntRange(min=2), help="Of the model.  [default: as the records' labels]")
@click.option("--queries", help="What to ask of each record: identity,flip,shifts.  [default: identity]")
@click.option("--attacks", metavar="A,B", help="Names of attacks.  [default: all whose inputs are there]")
@click.option("--out", default="audit.json", show_default=True, help="The verdict.")
@click.option("--scores", metavar="FILE", help="Each record's scores, as Parquet: id, member, a column an attack.")
@click.option("--figure", metavar="FILE", help="The ROC curves, .png or .svg.  [default: beside --out]")
@click.option(
    "--fail-if",
    "fail_if",
    multiple=True,
    metavar="CONDITION",
    help="Exit with 3 where '[attack.]metric op number' is met, e.g. 'auc_high > 0.6'; metrics are named as in --out; "
    "repeatable.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random.")
def audit(
    signals: str | None,
    probabilities: bool,
    equalize_references: bool,
    model: str | None,
    checkpoint: str | None,
    members: str | None,
    nonmembers: str | None,
    population: str | None,
    classes: int | None,
    queries: str | None,
    attacks: str | None,
    out: str,
    scores: str | None,
    figure: str | None,
    fail_if: tuple[str, ...],
    seed: int,
) -> int:
    """The command; see its options."""
    asked = dict(zip(_ONLY_MODEL, (checkpoint, members, nonmembers, population, classes, queries), strict=True))
    _check_source(signals, model, equalize_references, asked)
    inputs = {"--signals": signals, "--checkpoint": checkpoint}
    for option, file in inputs.items():
        if file is not None and not Path(file).is_file():
            raise InputError(f"{option} {file}: there is no such file; correct the path")
    if not Path(out).name:
        raise InputError(f"--out {out!r}: cannot be written; give a file")
    chart = Path(figure) if figure is not None else Path(out).with_name(f"{Path(out).stem}_roc.png")
    if chart.suffix not in (".png", ".svg"):
        raise InputError(f"--figure {chart}: give a name that ends in .png or .svg")
    # Torch and the rest take seconds to load: the command line is checked before.
    from raymia.auditing.files import check_outputs
    from raymia.auditing.session import AuditSession, Places, Sources

    places = Places(Path(out), chart, None if scores is None else Path(scores))
    check_outputs(places.by_option, [Path(file) for file in inputs.values() if file is not None])
    source = Sources(signals, model, checkpoint, members, nonmembers, population, classes, queries)
    return AuditSession(source, attacks, fail_if, places, probabilities, equalize_references, seed).run()


def _check_source(signals: str | None, model: str | None, equalize: bool, asked: Mapping[str, object]) -> None:
    """Raise InputError unless the options name one source of answers, and all that it takes."""
    if (signals is None) == (model is None):
        raise InputError("give --signals FILE with a model's answers, or --model with its data; one of the two")
    for name in _ONLY_MODEL if model is None else ():
        if asked[name] is not None:
            raise InputError(f"--{name}: goes with --model; the answers of --signals are given; leave it out")
    for name in () if model is None else _WITH_MODEL:
        if asked[name] is None:
            raise InputError(f"--model: needs --{name} too")
    if model is not None and equalize:
        raise InputError("--equalize-references: goes with --signals; --model asks no reference models; leave it out")


def main() -> None:
    """Entry point of `python -m raymia.audit`."""
    run_command(audit)


if __name__ == "__main__":
    main()
