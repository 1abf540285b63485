"""A study carried out: Ray Tune runs the trials, the workshop builds what they need, the live view watches."""

import contextlib
import logging
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from raymia.engine.cluster import HEAD_SLIVER, Cluster
from raymia.engine.outcome import Failure
from raymia.engine.workshop import Tally, open_workshop
from raymia.errors import RunError
from raymia.recipes.blueprint import models
from raymia.recipes.recipe import MODELS
from raymia.recipes.result import ResultRecipe
from raymia.records import Records
from raymia.report.live import LiveView, Progress, Running
from raymia.report.time_left import TimeLeft
from raymia.space import Setting
from raymia.store import Store
from raymia.study.search import proposer
from raymia.study.searcher import SettingSearcher
from raymia.study.standing import Standing
from raymia.study.study import Study

_LOOK_SECONDS = 0.5
_UNITS = {"models": "epoch", "generators": "iteration", "synthetic": "image", "robustness": "image"}


@dataclass
class Trials:
    """The settings tried, in the order they were proposed, and what became of them.

    started: Unix seconds, by number. done: numbers of the measured ones. failures: by number, every failed
    try. best: the best trade-off so far. warnings: what could not be reported.
    """

    settings: list[tuple[Setting, ResultRecipe]] = field(default_factory=list)
    started: dict[int, float] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    failures: dict[int, list[Failure]] = field(default_factory=dict)
    best: str | None = None
    warnings: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)


Finished = Callable[[Trials, int], None]


@dataclass(frozen=True)
class Audience:
    """Who follows the trials: both functions are called in the thread that runs them.

    ordered: before a new setting's trial starts. finished: after each trial, with its number.
    """

    view: LiveView
    ordered: Callable[[Trials], None]
    finished: Finished


def run_trials(
    study: Study, store: Store, cluster: Cluster, records: Records, found: Standing, audience: Audience
) -> Trials:
    """Try every setting of the study; failed ones are kept, tried twice, and do not stop the others.

    found: what was there before. Raises RunError when Ray itself fails.
    """
    workshop = open_workshop(ray.put(study.blueprint.planted(records)), store)
    trials = Trials()

    def order(number: int, setting: Setting) -> None:
        recipe = study.result(setting)
        ray.get(workshop.order.remote(number, recipe))
        trials.settings.append((setting, recipe))
        audience.ordered(trials)

    source = proposer(study.space, study.config.seed)
    watcher = Watcher(trials, audience.finished)
    with tempfile.TemporaryDirectory(prefix="raymia-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(_trial, workshop=[workshop]), {"cpu": 0, **HEAD_SLIVER}),
            tune_config=tune.TuneConfig(
                search_alg=SettingSearcher(source, order),
                num_samples=source.total,
                max_concurrent_trials=concurrent_trials(study, cluster),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="trials",
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=1),
                callbacks=[watcher],
            ),
        )
        counter = Counter(study, source.total, found)
        with _quiet_tune(), _watched(workshop, counter, trials, watcher, audience.view):
            try:
                tuner.fit()
            except tune.error.TuneError as error:
                raise RunError(f"Ray Tune failed: {' '.join(str(error).split())[:300]}") from error
            except RayError as error:
                raise RunError(f"Ray failed: {' '.join(str(error).split())[:300]}") from error
    trials.failures = watcher.lost | ray.get(workshop.failures.remote())
    trials.tally = ray.get(workshop.tally.remote())
    return trials


def concurrent_trials(study: Study, cluster: Cluster) -> int:
    """Enough trials in flight to keep every processor busy while one of them ends, and no more: each is a process."""
    engine = study.config.engine
    if engine.gpus_per_worker:
        at_once = cluster.gpus / (engine.gpus_per_worker * engine.workers_per_model)
    else:
        at_once = cluster.cpus / (engine.threads_per_worker * engine.workers_per_model)
    return max(2, math.ceil(at_once / (2 * study.config.plan.targets)) + 1)


def _trial(config: dict[str, Any], workshop: list[Any]) -> None:
    """One setting, as Ray Tune runs it: all work is in the tasks of the workshop."""
    outcome = ray.get(workshop[0].fulfil.remote(config["number"]))
    if not isinstance(outcome, Failure):
        tune.report(outcome)
    elif outcome.retry:
        raise RunError(outcome.message)
    else:
        tune.report({"failure": outcome.message})


class Watcher(tune.Callback):
    """Notes trials as they end."""

    def __init__(self, trials: Trials, finished: Finished) -> None:
        self._trials = trials
        self._finished = finished
        self.failed = 0
        self.lost: dict[int, list[Failure]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles itself for a restore of its own, which is not how a study resumes.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._trials.started.setdefault(trial.config["number"], time.time())

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        if "test_accuracy" in trial.last_result:
            self._trials.done.add(number)
        else:
            self.failed += 1
        self._tell(number)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        self.failed += 1
        # The workshop knows why a setting failed, unless the trial itself was lost.
        error = " ".join(str(trial.get_error() or "the trial was lost").split())[-300:]
        self.lost[number] = [Failure(error, "", retry=True)]
        self._tell(number)

    def _tell(self, number: int) -> None:
        try:
            self._finished(self._trials, number)
        except Exception as error:  # reporting must not end the trials in flight
            self._trials.warnings.append(f"{self._trials.settings[number][0].label} could not be reported: {error}")


@contextlib.contextmanager
def _quiet_tune() -> Iterator[None]:
    """Keep Tune's tracebacks off the console: why a trial failed is in the study's folder and its table."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.tune.tune")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _watched(workshop: Any, counter: "Counter", trials: Trials, watcher: Watcher, view: LiveView) -> Iterator[None]:
    """Feed the live view from a thread of its own, since Tune's loop only turns when something happens."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_LOOK_SECONDS):
            try:
                tally = ray.get(workshop.tally.remote(), timeout=5)
            except Exception:  # the study is ending, or Ray is: the view is not what reports it
                continue
            view.update(counter.progress(tally, trials, watcher))

    thread = threading.Thread(target=watch, name="live view", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        # A last look that takes long is not waited for: it may be Ctrl-C that ends the study.
        thread.join(timeout=1)


class Counter:
    """Turns the workshop's tally into progress."""

    def __init__(self, study: Study, settings: int, found: Standing) -> None:
        known = len(models(study.recipes))
        self._generators = found.generators_left
        # A search proposes settings as it goes: each is taken to need as many models as the first.
        first = known / len(study.recipes)
        self._settings = settings
        self._models = known if settings == len(study.recipes) else max(found.models, round(first * settings))
        # A finished setting's models are not looked at again, so the workshop does not count them.
        self._reused = found.reused
        self._left = TimeLeft(self._models - found.reused)

    def progress(self, tally: Tally, trials: Trials, watcher: Watcher) -> Progress:
        """Where the study stands now."""
        built = tally.models(tally.built)
        reused = max(self._reused, tally.models(tally.reused))
        part = sum(one.done / one.total for one in tally.running.values() if one.kind in MODELS)
        left = self._left.look(time.monotonic(), built + part + reused - self._reused)
        return Progress(
            settings_done=len(trials.done),
            settings_total=self._settings,
            models_done=reused + built,
            models_total=max(self._models, reused + built),
            models_reused=reused,
            running=running(tally),
            best=trials.best,
            eta_seconds=None if self._waits_for_generators(tally) else left,
            failures=watcher.failed,
        )

    def _waits_for_generators(self, tally: Tally) -> bool:
        """Whether some are left to train: how long they take, the pace of classifiers does not tell."""
        return tally.built.get("generators", 0) < self._generators


def running(tally: Tally) -> tuple[Running, ...]:
    """What is in the making, for the live view."""
    return tuple(Running(label, one.done, one.total, _UNITS[one.kind]) for label, one in sorted(tally.running.items()))


def failed_settings(trials: Trials) -> Sequence[tuple[str, str]]:
    """(setting, reason) of those that could not be measured."""
    return [
        (trials.settings[number][0].label, tries[-1].message)
        for number, tries in sorted(trials.failures.items())
        if number not in trials.done
    ]
