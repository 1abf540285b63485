"""One run of `audit`, from the checked command line to the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import click
from rich.console import Console

from raymia.attacks import Needs, attack_names
from raymia.auditing.conditions import Condition, judge, parse_condition
from raymia.auditing.evidence import Evidence, evidence_of, file_digest
from raymia.auditing.model import Questions, ask_model
from raymia.auditing.names import LARGE
from raymia.auditing.npz import read_npz
from raymia.auditing.numbers import numbers_of
from raymia.auditing.outcome import Outcome, as_figure, as_json, as_parquet
from raymia.auditing.parquet import read_parquet
from raymia.auditing.run import choose_attacks, needed, requested_attacks, run_attacks
from raymia.errors import InputError
from raymia.files import write_whole
from raymia.recipes.queries import Query
from raymia.report.audit import audit_lines, audit_table
from raymia.yaml_files import suggestion

FAILED = 3
"""Exit code where a condition of --fail-if is met or cannot be judged."""

_QUERIES = ("identity", "flip", "shifts")


@dataclass(frozen=True)
class Sources:
    """Where the answers come from: a file (`signals`), or a model and its data; as on the command line."""

    signals: str | None
    model: str | None
    checkpoint: str | None
    members: str | None
    nonmembers: str | None
    population: str | None
    classes: int | None
    queries: str | None


@dataclass(frozen=True)
class Places:
    """Files to write."""

    out: Path
    figure: Path
    scores: Path | None

    @property
    def by_option(self) -> dict[str, Path]:
        """Those that are wanted."""
        found = {"--out": self.out, "--figure": self.figure, "--scores": self.scores}
        return {option: path for option, path in found.items() if path is not None}


@dataclass(frozen=True)
class AuditSession:
    """What the command line asked for."""

    sources: Sources
    attacks: str | None
    fail_if: Sequence[str]
    places: Places
    probabilities: bool
    equalize: bool
    seed: int

    def run(self) -> int:
        """Audit, show, write; the exit code. Raises InputError before anything is written."""
        console = Console()
        requested = requested_attacks(self.attacks)
        conditions = [parse_condition(text, requested or attack_names()) for text in self.fail_if]
        with console.status("reading the answers") as status:
            evidence = self._evidence(requested)
            choice = choose_attacks(requested, evidence)
            _check_run(conditions, choice.left_out)
            results, left_out = run_attacks(choice, evidence, self.seed, status.update)
        numbers = {one.name: numbers_of(one.metrics) for one in results}
        _check_run(conditions, left_out)
        judgments = [judge(condition, numbers) for condition in conditions]
        outcome = Outcome(evidence, results, left_out, judgments, self.seed)
        write_whole(self._contents(outcome))
        self._show(outcome, console)
        return FAILED if any(one.fails for one in judgments) else 0

    def _evidence(self, requested: Sequence[str] | None) -> Evidence:
        if self.sources.signals is None:
            gradients = Needs.GRADIENT_NORM in needed(requested)
            return ask_model(self._questions(), probabilities=self.probabilities, gradients=gradients, seed=self.seed)
        path = Path(self.sources.signals)
        with path.open("rb") as file:
            start = file.read(4)
        if start not in (b"PK\x03\x04", b"PAR1"):
            raise InputError(f"--signals {path}: is neither npz nor Parquet; write it with numpy.savez")
        arrays = read_parquet(path) if start == b"PAR1" else read_npz(path, LARGE)
        digests = {path.name: file_digest(path)}
        return evidence_of(arrays, digests, probabilities=self.probabilities, equalize=self.equalize, seed=self.seed)

    def _questions(self) -> Questions:
        given = self.sources
        queries = tuple(name.strip() for name in (given.queries or "identity").split(","))
        for name in queries:
            if name not in _QUERIES:
                raise InputError(f"--queries: unknown query {name!r}: {suggestion(name, [*_QUERIES])}")
        return Questions(
            str(given.model),
            Path(str(given.checkpoint)),
            str(given.members),
            str(given.nonmembers),
            given.population,
            given.classes,
            cast(tuple[Query, ...], queries),
        )

    def _contents(self, outcome: Outcome) -> dict[Path, bytes]:
        places = self.places
        found = {places.out: as_json(outcome), places.figure: as_figure(outcome, svg=places.figure.suffix == ".svg")}
        return found if places.scores is None else {**found, places.scores: as_parquet(outcome)}

    def _show(self, outcome: Outcome, console: Console) -> None:
        console.print(audit_table({one.name: one.metrics for one in outcome.results}, console.width))
        strongest = outcome.strongest
        notes = [*outcome.evidence.notes, *(f"{', '.join(names)}: {note}" for note, names in outcome.attack_notes)]
        for line in audit_lines(
            strongest.name,
            strongest.metrics.auc,
            outcome.strongest_interval,
            len(outcome.results),
            outcome.left_out,
            notes,
        ):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        for option, path in self.places.by_option.items():
            console.print(f"{option[2:]:<8} {path}", markup=False, highlight=False, soft_wrap=True)
        for judgment in outcome.judgments:
            click.echo(f"raymia: {judgment.line}", err=judgment.fails)


def _check_run(conditions: Sequence[Condition], left_out: Mapping[str, str]) -> None:
    for condition in conditions:
        reason = left_out.get(condition.attack or "")
        if reason is not None:
            raise InputError(f"--fail-if {condition.text!r}: {condition.attack} is not run: {reason}")
