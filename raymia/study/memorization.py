"""One run of `memorization`: a finished study's leakage and accuracy by how far its records are memorized."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from raymia.clean import REFERENCES
from raymia.engine import cluster as ray_cluster
from raymia.errors import InputError
from raymia.files import write_whole
from raymia.metrics.caught import TargetAnswers
from raymia.metrics.comparison import Scored
from raymia.metrics.memorization import Memorization, resolved_fpr, upper_edges
from raymia.metrics.memorization_bins import Row, SettingAnswers, memorization_rows
from raymia.metrics.populations import ALL, parts
from raymia.metrics.table import write_csv
from raymia.recipes.memorization import MemorizationModels, memorization_models
from raymia.recipes.recipe import ready
from raymia.recipes.signals import SignalsRecipe
from raymia.seeds import generator
from raymia.store import Inspection, Store
from raymia.study.lock import held
from raymia.study.making import make_all, present_models
from raymia.study.place import place_of
from raymia.study.publish import scored_by, subtitle, title
from raymia.study.references import references
from raymia.study.scored import ScoredStudy, read_scored

# Of its own: a study that is run again writes its list anew.
LIST = f"memorization-{REFERENCES}"

Answers = dict[str, list[tuple[Scored, NDArray[np.bool_]]]]


@dataclass
class MemorizationSession:
    """What the command line asked for. study: its folder's name. references: models for each target's records.

    fpr: None takes the lowest that the study resolves. attack: None takes each setting's worst.
    """

    study: str
    references: int
    bins: int
    fpr: float | None
    attack: str | None
    results: str
    address: str | None
    quiet: bool

    def __post_init__(self) -> None:
        self.console = Console()
        local, self.store = place_of(self.results, False)
        self.folder = local / self.study

    def run(self) -> int:
        """Score the records and write the pages; the exit code. Raises InputError before anything is trained."""
        upper_edges(self.bins)
        if self.attack is not None and parts(self.attack)[1] != ALL:
            raise InputError(f"--attack {self.attack}: all members are looked at; give {parts(self.attack)[0]}")
        found = read_scored(self.folder, self.attack)
        models = memorization_models(found.whole.blueprint, self.references)
        answers = self._answers(found)
        scored = [one for one, _ in next(iter(answers.values()))]
        fpr = resolved_fpr(sum(int((~one.member).sum()) for one in scored), self.fpr)
        with held(self.folder):
            recipes = _recipes(models)
            write_whole({self.folder / LIST: references(recipes).encode("utf-8")})
            if not all(ready(one, self.store, Inspection()) for one in recipes):
                self._make(found, recipes)
            measured = _measured(models, self.store)
            rows = self._rows(found, answers, measured, fpr)
            self._report(found, rows, list(_each_score(found, models, measured)))
        return 0

    def _answers(self, found: ScoredStudy) -> Answers:
        """By setting, each target's scores, and bool[N] whether it is right on the same records."""
        answers: Answers = {}
        with found.still_there():
            for setting, result in found.results.items():
                pairs = zip(found.scores(setting), result.targets, strict=True)
                answers[setting] = [
                    (scored_by(scores, self.store), _right(target.signals, self.store)) for scores, target in pairs
                ]
        return answers

    def _make(self, found: ScoredStudy, recipes: Sequence[SignalsRecipe]) -> None:
        total, there = present_models(recipes, self.store)
        self._say(f"{self.references} undefended models for each set of scored records: {total - there} to train")
        config, ground = found.whole.config, found.whole.blueprint.ground
        with ray_cluster.started(self.address, config.engine) as cluster:
            ray_cluster.check_nodes(cluster, self.store, config.training.precision, ground.device)
            for name in make_all(recipes, found.records, self.store, self.console, self.quiet):
                self._say(f"damaged, rebuilt: {name}", style="yellow")

    def _rows(self, found: ScoredStudy, answers: Answers, measured: Sequence[Memorization], fpr: float) -> list[Row]:
        whole = {setting.label: setting for setting in found.whole.settings}
        settings = [
            SettingAnswers(
                name,
                whole[name].name,
                whole[name].hyperparameters,
                found.attacks[name],
                tuple(
                    TargetAnswers(scored.scores, scored.member, right, one.scores)
                    for (scored, right), one in zip(targets, measured, strict=True)
                ),
            )
            for name, targets in answers.items()
        ]
        return memorization_rows(settings, self.bins, fpr, generator(found.whole.config.seed, "memorization bins"))

    def _report(self, found: ScoredStudy, rows: list[Row], scores: list[Row]) -> None:
        # Matplotlib takes a second to load.
        from raymia.report.memorization import write_memorization
        from raymia.report.memorization_table import memorization_table

        csv, score_csv = self.folder / "memorization.csv", self.folder / "memorization_scores.csv"
        write_csv(rows, csv)
        write_csv(scores, score_csv)
        how = (
            f"{subtitle(found.whole)}; memorization by {self.references} further undefended models on halves of the "
            "scored records, which no attack has"
        )
        name = f"Leakage by memorization: {title(found.whole)}"
        figures = write_memorization(rows, found.study.rows, self.folder, name, how)
        self.console.print(memorization_table(rows, self.console.width))
        for kind, path in (("table", csv), ("scores", score_csv), ("figure", figures[0])):
            self._say(f"{kind:<8} {path}")

    def _say(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def _right(signals: SignalsRecipe, store: Store) -> NDArray[np.bool_]:
    answers = signals.open(store)
    right: NDArray[np.bool_] = answers.logits_NQC[:, 0].argmax(axis=1) == answers.labels_N
    return right


def _recipes(models: Sequence[MemorizationModels]) -> list[SignalsRecipe]:
    """Each once, though targets may share them."""
    return list({one.key: one for owned in models for one in owned.answers}.values())


def _measured(models: Sequence[MemorizationModels], store: Store) -> list[Memorization]:
    """Of each target's records, read once where targets share them."""
    found = {one.owner: one.measure(store) for one in {one.owner: one for one in models}.values()}
    return [found[one.owner] for one in models]


def _each_score(
    found: ScoredStudy, models: Sequence[MemorizationModels], measured: Sequence[Memorization]
) -> Iterator[Row]:
    """The rows of `memorization_scores.csv`. target: whose records; empty where all targets share them."""
    records, shared = found.records, found.whole.config.plan.kind == "shared"
    for owned, one in list(zip(models, measured, strict=True))[: 1 if shared else None]:
        for number, position in enumerate(owned.answers[0].positions):
            yield {
                "target": None if shared else owned.owner,
                "id": int(records.ids[position]),
                "label": records.class_names[records.labels[position]],
                "memorization": float(one.scores[number]),
                "models_in": int(one.in_N[number]),
                "right_in": int(one.right_in_N[number]),
                "models_out": int(one.out_N[number]),
                "right_out": int(one.right_out_N[number]),
            }
