"""One run of `tune`, from the checked command line to the table on the screen."""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from raymia.attacks import attack_named
from raymia.clean import REFERENCES
from raymia.config import StudyConfig
from raymia.engine import cluster as ray_cluster
from raymia.errors import RunError
from raymia.metrics.summary import Row
from raymia.recipes.blueprint import models
from raymia.recipes.recipe import ready, walk
from raymia.records import Records, check_source, load_records
from raymia.report.live import LiveView
from raymia.report.summary import best_trade_off
from raymia.space import Space
from raymia.store import Inspection, Store
from raymia.study.facts import DataFacts, facts_of, recall_facts, remember_facts
from raymia.study.folder import StudyFolder
from raymia.study.price import exists, present_names, price
from raymia.study.publish import (
    MeasuredSetting,
    device_seconds,
    failed_record,
    read_measured,
    study_record,
    table,
    trial_record,
    write_report,
)
from raymia.study.study import Study, assemble
from raymia.tracking import Tracker, check_tracking_uri, default_tracking_uri


@dataclass
class Session:
    """What the command line asked for. results: a folder, or the URI of one that every node reaches."""

    config: StudyConfig
    space: Space
    results: str
    name: str | None
    tracking_uri: str | None
    address: str | None
    fresh: bool
    quiet: bool

    def __post_init__(self) -> None:
        self.console = Console()
        shared = "://" in self.results
        # With results in a bucket, what people read is written here.
        self.local = Path("results" if shared else self.results)
        root = self.results.rstrip("/") if shared else str(self.local.absolute())
        self.store = Store(f"{root}/artifacts", uuid.uuid4().hex if self.fresh else None)
        self.uri = self.tracking_uri or default_tracking_uri(self.local)

    def run(self, dry_run: bool) -> int:
        """Carry the study out; the exit code. Raises InputError before anything is trained or written."""
        for attack in self.config.attacks:
            attack_named(attack)
        check_source(self.config.data.dataset, self.config.data.limit)
        if not dry_run:
            check_tracking_uri(self.uri, 1)
        study = self._known_study()
        if study is not None:
            folder = self._folder(study)
            if dry_run:
                return self._say_price(study)
            if self._complete(study):
                with folder.held():
                    return self._finish_complete(study, folder)
        with ray_cluster.started(self.address, self.config.engine) as cluster:
            return self._run_on(cluster, dry_run)

    def _known_study(self) -> Study | None:
        """The study, when its data are known without Ray."""
        data = self.config.data
        if data.dataset == "digits":
            return assemble(self.config, self.space, facts_of(load_records("digits", limit=data.limit)))
        facts = recall_facts(data, self.store)
        return None if facts is None else assemble(self.config, self.space, facts)

    def _folder(self, study: Study) -> StudyFolder:
        folder = StudyFolder(self.local, self.name or study.default_name)
        folder.check(study)
        return folder

    def _say_price(self, study: Study) -> int:
        self.console.print(
            f"[bold]{study.space.name}[/] on {study.facts.source}: {len(study.recipes)} settings", highlight=False
        )
        for line in price(study, self.store).lines():
            self.console.print(line, highlight=False)
        return 0

    def _complete(self, study: Study) -> bool:
        """Whether everything the study needs is there and undamaged; damaged artifacts are named."""
        if study.space.search.method == "optuna" or self.fresh:
            return False
        present = set(present_names(self.store))
        recipes = list(walk(study.recipes))
        if not all(exists(recipe, present) for recipe in recipes):
            return False
        inspection = Inspection()
        found_ready = [ready(recipe, self.store, inspection) for recipe in recipes]
        for name in inspection.damaged:
            self.console.print(f"damaged, will be rebuilt: {name}", highlight=False)
        return all(found_ready)

    def _finish_complete(self, study: Study, folder: StudyFolder) -> int:
        self._say_reused(study, len(models(study.recipes)))
        measured = read_measured(zip(study.settings, study.recipes, strict=True), self.store)  # type: ignore[arg-type]
        with self._tracker(study, folder) as tracker:
            for one in measured:
                tracker.trial(trial_record(one, folder, self.store))
            return self._finish(study, folder, measured, [], tracker, time.time())

    def _run_on(self, cluster: ray_cluster.Cluster, dry_run: bool) -> int:
        from raymia.engine.read import read_records

        started = time.time()
        check_tracking_uri(self.uri, len(cluster.nodes))
        records = read_records(self.config.data.dataset, limit=self.config.data.limit)
        facts = facts_of(records)
        study = assemble(self.config, self.space, facts)
        folder = self._folder(study)
        if dry_run:
            return self._say_price(study)
        ray_cluster.check_nodes(cluster, self.store, study.config.training.precision)
        remember_facts(self.config.data, facts, self.store)
        with folder.held():
            return self._search(study, folder, cluster, records, started)

    def _search(
        self, study: Study, folder: StudyFolder, cluster: ray_cluster.Cluster, records: Records, started: float
    ) -> int:
        from raymia.study.run import Trials, failed_settings, run_trials

        self._say_facts(study.facts)
        present = set() if self.fresh else set(present_names(self.store))
        self._say_reused(study, sum(exists(model, present) for model in models(study.recipes)))
        folder.write_record(study, "running")
        folder.write_text(REFERENCES, _references(study.recipes))
        with self._tracker(study, folder) as tracker, LiveView(self.console, self.quiet) as view:
            measured: dict[int, MeasuredSetting] = {}

            def finished(trials: Trials, number: int) -> None:
                folder.write_text(REFERENCES, _references([recipe for _, recipe in trials.settings]))
                if number in trials.done:
                    [measured[number]] = read_measured([trials.settings[number]], self.store)
                    tracker.trial(trial_record(measured[number], folder, self.store, trials.started[number]))
                    trials.best = best_trade_off(table(study, [measured[one] for one in sorted(measured)]))

            try:
                trials = run_trials(study, self.store, cluster, records, view, finished)
            except BaseException:
                folder.write_record(study, "interrupted")
                raise
            for name in trials.tally.damaged:
                view.warn(f"damaged, rebuilt: {name}")
            failures = list(failed_settings(trials))
            for number in sorted(trials.failures.keys() - trials.done):
                tracker.trial(failed_record(*trials.settings[number], trials.failures[number][-1].message))
                folder.write_text(f"failure-{number}.txt", _story(trials, number))
            in_order = [measured[number] for number in sorted(measured)]
            return self._finish(study, folder, in_order, failures, tracker, started)

    def _finish(
        self,
        study: Study,
        folder: StudyFolder,
        measured: list[MeasuredSetting],
        failures: list[tuple[str, str]],
        tracker: Tracker,
        started: float,
    ) -> int:
        if not measured:
            folder.write_record(study, "failed", failures=failures)
            raise RunError("no setting could be measured: " + "; ".join(f"{name}: {why}" for name, why in failures))
        found = table(study, measured)
        paths = write_report(study, folder, found)
        cost = {
            "wall_seconds": round(time.time() - started, 1),
            "device_seconds": round(device_seconds([one.recipe for one in measured], self.store), 1),
            "models": len(models(one.recipe for one in measured)),
        }
        folder.write_record(study, "complete", failures=failures, cost=cost)
        tracker.study_finished({"device_seconds": cost["device_seconds"]}, [*paths, folder.path / "study.json"])
        tracker.close()
        self._say_end(folder, found, failures, tracker)
        return 1 if failures else 0

    def _tracker(self, study: Study, folder: StudyFolder) -> Tracker:
        experiment = f"raymia/{study.facts.source}"
        return Tracker.open(self.uri, experiment, study_record(study, folder.name), folder.path / "unsent.jsonl")

    def _say_facts(self, facts: DataFacts) -> None:
        dropped = f", {facts.duplicates_dropped} exact duplicates dropped" if facts.duplicates_dropped else ""
        self.console.print(
            f"{facts.source}: {facts.records:,} records, {facts.classes} classes{dropped}", highlight=False
        )

    def _say_reused(self, study: Study, reused: int) -> None:
        if reused:
            total = len(models(study.recipes))
            self.console.print(f"reusing {reused} of {total} trained models from {self.store.root}", highlight=False)

    def _say_end(
        self, folder: StudyFolder, found: list[Row], failures: list[tuple[str, str]], tracker: Tracker
    ) -> None:
        from raymia.report.table import print_study_end

        print_study_end(self.console, found, failures)
        for warning in tracker.warnings:
            self.console.print(warning, style="yellow", highlight=False)
        self.console.print(f"table    {folder.path / 'frontier.csv'}", highlight=False)
        self.console.print(f"figure   {folder.path / 'frontier.png'}", highlight=False)
        uri = self.uri
        how = f"mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else uri
        self.console.print(f"MLflow   {how}", highlight=False)


def _story(trials: Any, number: int) -> str:
    """Every failed try of a setting, with its traceback."""
    tries = enumerate(trials.failures[number], start=1)
    text = "\n".join(f"try {count}: {one.message}\n{one.detail}" for count, one in tries)
    return f"{trials.settings[number][0].label}\n\n{text}\n"


def _references(recipes: list[Any]) -> str:
    """Every artifact that these recipes use, checkpoints included, a line each."""
    names: list[str] = []
    for recipe in walk(recipes):
        names += recipe.artifacts
        names += [f"checkpoints/{recipe.key}"] if recipe.kind == "models" else []
    return "\n".join(names) + "\n"
