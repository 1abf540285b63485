"""One run of `tune`, from the checked command line to the table on the screen."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from raymia.attacks import attack_named
from raymia.clean import REFERENCES
from raymia.config import StudyConfig
from raymia.engine import cluster as ray_cluster
from raymia.errors import InputError, RunError
from raymia.metrics.summary import Row
from raymia.recipes.blueprint import models
from raymia.records import Records, check_source, load_records
from raymia.records.plan_choice import decided, plan_for
from raymia.report.live import LiveView
from raymia.report.summary import best_trade_off
from raymia.space import Space
from raymia.study.facts import DataFacts, facts_of, recall_facts, remember_facts
from raymia.study.folder import StudyFolder, check_name, check_place
from raymia.study.history import History, told_sessions, wall_seconds
from raymia.study.place import place_of
from raymia.study.price import price
from raymia.study.publish import (
    MeasuredSetting,
    device_seconds,
    failed_record,
    left_out_lines,
    read_measured,
    robustness_lines,
    study_record,
    table,
    trial_record,
    write_report,
)
from raymia.study.references import references
from raymia.study.standing import Standing, standing
from raymia.study.study import Study, assemble
from raymia.tracking import Tracker, check_tracking_uri, default_tracking_uri


@dataclass
class Session:
    """What the command line asked for. results: a folder, or the URI of one that every node reaches.

    tags: of the study's run in MLflow. more: writes further pages of the report into the study's folder, from the
    table's rows; their paths.
    """

    config: StudyConfig
    space: Space
    results: str
    name: str | None
    tracking_uri: str | None
    address: str | None
    fresh: bool
    quiet: bool
    tags: Mapping[str, str] = field(default_factory=dict)
    more: Callable[[Path, Sequence[Row]], list[Path]] | None = None

    def __post_init__(self) -> None:
        self.console = Console()
        self.local, self.store = place_of(self.results, self.fresh)
        self.uri = self.tracking_uri or default_tracking_uri(self.local)

    def run(self, dry_run: bool) -> int:
        """Carry the study out; the exit code. Raises InputError before anything is trained or written."""
        self._check()
        if not dry_run:
            check_tracking_uri(self.uri, 1)
        study = self._known_study()
        if study is None and dry_run:
            study = assemble(self.config, self.space, facts_of(load_records(**self.config.data.model_dump())))
        if study is not None:
            folder = self._folder(study)
            if dry_run:
                return self._say_price(study)
            found = standing(study, self.store)
            if found.complete:
                with folder.held():
                    return self._finish_complete(study, folder, found)
        with ray_cluster.started(self.address, self.config.engine) as cluster:
            return self._run_on(cluster)

    def _check(self) -> None:
        """Raise InputError for what is wrong without a look into the data; takes no time."""
        if self.name is not None:
            check_name(self.name)
        check_place(self.local)
        attacks = self.config.attacks
        for number, attack in enumerate(attacks):
            attack_named(attack)
            if attack in attacks[:number]:
                raise InputError(f"attacks: {attack} is given twice; give each once")
        records = check_source(self.config.data.dataset, self.config.data.limit)
        plan = decided(self.config.plan, self.space.needs_reserve)
        plan_for(records, plan, 0, plan.targets - 1)

    def _known_study(self) -> Study | None:
        """The study, when its data are known without Ray."""
        data = self.config.data
        if data.dataset == "digits":
            return assemble(self.config, self.space, facts_of(load_records(**data.model_dump())))
        facts = recall_facts(data, self.store)
        return None if facts is None else assemble(self.config, self.space, facts)

    def _folder(self, study: Study) -> StudyFolder:
        folder = StudyFolder(self.local, self.name or study.default_name)
        folder.check(study)
        return folder

    def _say_price(self, study: Study) -> int:
        self._say(f"{study.space.name} on {study.facts.source}: {_settings(study)}")
        for line in price(study, self.store).lines():
            self._say(line)
        return 0

    def _finish_complete(self, study: Study, folder: StudyFolder, found: Standing) -> int:
        # First: what other studies made, this one has not listed yet.
        folder.write_text(REFERENCES, references([recipe for _, recipe in found.settings]))
        history = History(told_sessions(folder.record()), built={})
        self._say_reused(found)
        measured = read_measured(found.settings, self.store)
        with self._tracker(study, folder, history) as tracker:
            for one in measured:
                tracker.trial(trial_record(study, one, folder, self.store))
            return self._finish(study, folder, measured, [], tracker, history)

    def _run_on(self, cluster: ray_cluster.Cluster) -> int:
        from raymia.engine.read import read_records

        started = time.time()
        check_tracking_uri(self.uri, len(cluster.nodes))
        records = read_records(**self.config.data.model_dump())
        facts = facts_of(records)
        study = assemble(self.config, self.space, facts)
        folder = self._folder(study)
        ray_cluster.check_nodes(cluster, self.store, study.config.training.precision, study.blueprint.ground.device)
        with folder.held():
            remember_facts(self.config.data, facts, self.store)
            return self._search(study, folder, cluster, records, started)

    def _search(
        self, study: Study, folder: StudyFolder, cluster: ray_cluster.Cluster, records: Records, started: float
    ) -> int:
        # Listed before it is looked for, and only added to: a search that resumes names its settings by and by.
        folder.add_lines(REFERENCES, references(study.recipes))
        found = standing(study, self.store)
        folder.add_lines(REFERENCES, references([recipe for _, recipe in found.settings]))
        history = History(told_sessions(folder.record()), started)
        self._say_facts(study.facts)
        self._say_reused(found)
        for name in found.damaged:
            self._say(f"damaged, will be rebuilt: {name}", style="yellow")
        folder.write_record(study, "running", history.told(ended=False))
        folder.forget_failures()
        try:
            with self._tracker(study, folder, history) as tracker:
                measured, failures = self._try_settings(study, folder, cluster, records, found, tracker, history)
                return self._finish(study, folder, measured, failures, tracker, history)
        except BaseException:
            if folder.status == "running":
                folder.write_record(study, "interrupted", history.told(ended=True))
            raise

    def _try_settings(
        self,
        study: Study,
        folder: StudyFolder,
        cluster: ray_cluster.Cluster,
        records: Records,
        found: Standing,
        tracker: Tracker,
        history: History,
    ) -> tuple[list[MeasuredSetting], list[tuple[str, str]]]:
        """Run the trials under the live view: the measured settings in order, and (setting, reason) of the failed."""
        from raymia.study.run import Audience, Trials, failed_settings, run_trials

        measured: dict[int, MeasuredSetting] = {}

        def ordered(trials: Trials) -> None:
            folder.add_lines(REFERENCES, references([trials.settings[-1][1]]))

        def finished(trials: Trials, number: int) -> None:
            if number in trials.done:
                [measured[number]] = read_measured([trials.settings[number]], self.store)
                tracker.trial(trial_record(study, measured[number], folder, self.store, trials.started[number]))
                trials.best = best_trade_off(table(study, [measured[one] for one in sorted(measured)], self.store))
            folder.write_record(study, "running", history.told(ended=False))

        with LiveView(self.console, self.quiet) as view:
            trials = run_trials(study, self.store, cluster, records, found, Audience(view, ordered, finished))
        history.built = trials.tally.built
        folder.write_text(REFERENCES, references([recipe for _, recipe in trials.settings]))
        for name in dict.fromkeys(trials.tally.damaged):
            if name not in found.damaged:
                self._say(f"damaged, rebuilt: {name}", style="yellow")
        for warning in trials.warnings:
            self._say(warning, style="yellow")
        for number in sorted(trials.failures.keys() - trials.done):
            tracker.trial(failed_record(*trials.settings[number], trials.failures[number][-1].message))
            folder.write_failure(number, _story(trials, number))
        done = [trials.settings[number] for number in sorted(trials.done)]
        return read_measured(done, self.store), list(failed_settings(trials))

    def _finish(
        self,
        study: Study,
        folder: StudyFolder,
        measured: list[MeasuredSetting],
        failures: list[tuple[str, str]],
        tracker: Tracker,
        history: History,
    ) -> int:
        if not measured:
            folder.write_record(study, "failed", history.told(ended=True), failures=failures)
            raise RunError("no setting could be measured: " + "; ".join(f"{name}: {why}" for name, why in failures))
        found = table(study, measured, self.store)
        paths = write_report(study, folder, measured, found, self.store)
        paths += self.more(folder.path, found) if self.more else []
        if self.store.fresh is not None:
            history.earlier = []
        told = history.told(ended=True)
        cost = {
            "wall_seconds": wall_seconds(told),
            "device_seconds": round(device_seconds([one.recipe for one in measured], self.store), 1),
            "models": len(models(one.recipe for one in measured)),
        }
        left_out = {one.recipe.label: one.recipe.left_out for one in measured if one.recipe.left_out}
        against = robustness_lines(study, measured)
        more = {"failures": failures, "cost": cost, "left_out": left_out, "robustness": against}
        folder.write_record(study, "complete", told, **more)
        tracker.study_finished({"device_seconds": cost["device_seconds"]}, [*paths, folder.path / "study.json"])
        tracker.close()
        self._say_end(folder, found, failures, [*left_out_lines(left_out), *against], tracker)
        return 1 if failures else 0

    def _tracker(self, study: Study, folder: StudyFolder, history: History) -> Tracker:
        experiment = f"raymia/{study.dataset}"
        commit = history.told(ended=False)["git_commit"] or "unknown"
        record = study_record(study, folder.name, {"raymia.git_commit": commit, **self.tags})
        return Tracker.open(self.uri, experiment, record, folder.path / "unsent.jsonl")

    def _say_facts(self, facts: DataFacts) -> None:
        dropped = f", {facts.duplicates_dropped} exact duplicates dropped" if facts.duplicates_dropped else ""
        self._say(f"{facts.source}: {facts.records:,} records, {facts.classes} classes{dropped}")

    def _say_reused(self, found: Standing) -> None:
        if found.reused:
            self._say(f"reusing {found.reused} of {found.models} trained models from {self.store.root}")

    def _say(self, line: str, style: str | None = None) -> None:
        # A line is a line: one that a terminal breaks can still be copied whole.
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

    def _say_end(
        self,
        folder: StudyFolder,
        found: list[Row],
        failures: list[tuple[str, str]],
        remarks: list[str],
        tracker: Tracker,
    ) -> None:
        from raymia.report.table import print_study_end

        print_study_end(self.console, found, failures, remarks)
        for warning in tracker.warnings:
            self._say(warning, style="yellow")
        self._say(f"table    {folder.path / 'frontier.csv'}")
        for name in ("frontier.png", "robust_frontier.png"):
            if (folder.path / name).is_file():
                self._say(f"figure   {folder.path / name}")
        uri = self.uri
        how = f"mlflow ui --backend-store-uri {uri}" if uri.startswith("sqlite:") else uri
        self._say(f"MLflow   {how}")


def _settings(study: Study) -> str:
    """How many settings there are to try; an Optuna search names none beforehand but the undefended one."""
    search = study.space.search
    count = search.samples + 1 if search.method == "optuna" else len(study.settings)
    return f"{count} setting{'s' * (count != 1)}"


def _story(trials: Any, number: int) -> str:
    """Every failed try of a setting, with its traceback."""
    tries = enumerate(trials.failures[number], start=1)
    text = "\n".join(f"try {count}: {one.message}\n{one.detail}" for count, one in tries)
    # Ray colors what it passes on, terminal or not.
    return f"{trials.settings[number][0].label}\n\n{click.unstyle(text)}\n"
