"""The study's record in MLflow: a study is a parent run, a trial a child run. The only file that imports mlflow.

MLflow takes 2 s to import and 3 s to create a database, so all of it happens in one thread of the driver while the
first models train. Workers never touch it.

Records pass through an outbox, so neither an outage of the server nor a killed driver loses one; and runs are found by
their content key and points that are there are not logged again, so nothing arrives twice either.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from raymia import tracking_records as records
from raymia.errors import InputError
from raymia.outbox import Entry, Outbox
from raymia.tracking_records import ERROR_TAG, VERIFIES_TAG, StudyRecord, TrialRecord
from raymia.tracking_uri import absolute, check_address, database_path, default_tracking_uri, is_local, redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["StudyRecord", "Tracker", "TrialRecord", "check_tracking_uri", "default_tracking_uri"]

KEY_TAG = "raymia.key"
KIND_TAG = "raymia.kind"
LOGGED_TAG = "raymia.logged"
PARENT_TAG = "mlflow.parentRunId"

CLOSE_SECONDS = 10.0
"""How long `Tracker.close` waits for a server without any progress."""
CLOSE_SECONDS_LOCAL = 60.0
"""The same for a database, which is never away but slow to create on a busy machine."""
CLOSE_SECONDS_INTERRUPTED = 2.0
"""The same after Ctrl-C; what is left goes to the spool."""
REQUEST_SECONDS = 8
"""HTTP timeout; shorter than CLOSE_SECONDS."""

POINTS_PER_BATCH = 1000
PARAMS_PER_BATCH = 100
PARAM_LENGTH = 6000
"""MLflow's limits for one call and one value."""


def check_tracking_uri(uri: str, nodes: int) -> None:
    """Raises InputError, before anything trains, when runs cannot be logged to `uri` from a cluster of `nodes`."""
    check_address(uri, nodes)
    if not is_local(uri):
        _check_server(uri)


class Tracker:
    """Logs one study. Calls queue and return at once; a failure of MLflow becomes a line of `warnings`, never an error.

    Use as a context manager: an exception marks the parent run as failed, Ctrl-C as killed.
    """

    def __init__(self, uri: str, experiment: str, study: StudyRecord, spool: Path) -> None:
        self.warnings: list[str] = []
        self._uri = absolute(uri)
        self._spool = spool
        self._closed = False
        opened_at = time.time()
        self._outbox = Outbox(
            spool,
            topic=study.key,
            connect=lambda: _Store(self._uri, experiment, study, opened_at, self._warn),
            opening={"kind": "study", "time": opened_at},
        )

    @classmethod
    def open(cls, uri: str, experiment: str, study: StudyRecord, spool: Path) -> Self:
        """Starts the writer thread; what an earlier session of this study left in `spool` is sent first."""
        tracker = cls(uri, experiment, study, spool)
        tracker._outbox.start()
        return tracker

    def trial(self, record: TrialRecord) -> None:
        """Logs a finished or failed trial; a trial with the same key and the same content is logged once."""
        self._put("trial", records.trial_entry(record))

    def study_finished(self, metrics: Mapping[str, float], artifacts: Sequence[Path] = ()) -> None:
        """Logs the study's own numbers and files, and marks the parent run as finished."""
        files = [str(path.absolute()) for path in artifacts]
        self._put("finished", {"metrics": records.floats(metrics), "artifacts": files})

    def close(self, patience: float | None = None) -> None:
        """Sends what is left, giving up after `patience` seconds without progress. Never raises for MLflow's sake."""
        if self._closed:
            return
        self._closed = True
        usual = CLOSE_SECONDS_LOCAL if is_local(self._uri) else CLOSE_SECONDS
        left = self._outbox.close(usual if patience is None else patience)
        if left is None:
            return
        reason = redacted(self._outbox.trouble or "it took too long")
        kept = f": {left} record{'s' * (left != 1)} kept in {self._spool}, sent when this study is run again"
        self._warn(f"MLflow at {redacted(self._uri)} failed ({reason}){kept if left else ''}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt | SystemExit)
        if kind is not None and not self._closed:
            self._put("ended", {"status": "KILLED" if interrupted else "FAILED"})
        self.close(CLOSE_SECONDS_INTERRUPTED if interrupted else None)

    def _put(self, kind: str, fields: Entry) -> None:
        self._outbox.put({"kind": kind, "time": time.time(), **fields})

    def _warn(self, line: str) -> None:
        if line not in self.warnings:
            self.warnings.append(line)


class _Store:
    """One study's conversation with MLflow, in the writer thread. Everything sent twice is taken once.

    A failed call may have made its run all the same, so this is thrown away after a failure and made anew.
    """

    def __init__(
        self, uri: str, experiment: str, study: StudyRecord, opened_at: float, warn: Callable[[str], None]
    ) -> None:
        if is_local(uri):
            _create_database(database_path(uri))
        self._client = _client(uri)
        self._study, self._warn = study, warn
        self._experiment_id = self._find_experiment(experiment, uri)
        self._parent_id = self._find_parent(opened_at)
        self._children: dict[str, Run] | None = None

    def send(self, entry: Entry) -> None:
        if entry["kind"] == "study":
            self._start_study(entry)
        elif entry["kind"] == "trial":
            self._log_trial(entry)
        elif entry["kind"] == "finished":
            self._log(self._client.get_run(self._parent_id), entry)
            self._log_files(self._parent_id, {Path(file).name: file for file in entry["artifacts"]})
            self._end(self._parent_id, "FINISHED", entry["time"])
        else:
            self._end(self._parent_id, entry["status"], entry["time"])

    def _find_experiment(self, name: str, uri: str) -> str:
        if found := self._client.get_experiment_by_name(name):
            if found.lifecycle_stage != "active":
                raise RuntimeError(f"its experiment '{name}' is deleted: restore it there")
            return str(found.experiment_id)
        location = (database_path(uri).parent / "mlartifacts").as_uri() if is_local(uri) else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _find_parent(self, opened_at: float) -> str:
        if runs := self._studies(self._study.key):
            return str(runs[0].info.run_id)
        tags = {**self._study.tags, KEY_TAG: self._study.key, KIND_TAG: "study"}
        start = records.milliseconds(opened_at)
        run = self._client.create_run(self._experiment_id, start, tags, self._study.name)
        return str(run.info.run_id)

    def _start_study(self, entry: Entry) -> None:
        self._client.update_run(self._parent_id, status="RUNNING", name=self._study.name)
        tags = {**self._study.tags, **self._verified()}
        fields = {"params": records.texts(self._study.params), "tags": tags, "time": entry["time"]}
        self._log(self._client.get_run(self._parent_id), fields)
        self._client.log_text(self._parent_id, self._study.config_yaml, "config.yaml")

    def _verified(self) -> dict[str, str]:
        """The tag that makes a verification a child of its study, where that was logged here."""
        verifies = self._study.tags.get(VERIFIES_TAG)
        found = self._studies(verifies) if verifies else []
        return {PARENT_TAG: found[0].info.run_id} if found else {}

    def _studies(self, key: str) -> "list[Run]":
        """The runs of a study, the oldest first."""
        ours = f"tags.`{KEY_TAG}` = '{key}' and tags.`{KIND_TAG}` = 'study'"
        return list(self._client.search_runs([self._experiment_id], ours, order_by=["attributes.start_time ASC"]))

    def _log_trial(self, entry: Entry) -> None:
        digest = records.content_digest(entry)
        run = self._trial_run(entry)
        if run.data.tags.get(LOGGED_TAG) == digest:
            return
        run_id = run.info.run_id
        if run.info.run_name != entry["name"]:
            self._client.update_run(run_id, name=entry["name"])
        if ERROR_TAG in run.data.tags and ERROR_TAG not in entry["tags"]:
            self._client.delete_tag(run_id, ERROR_TAG)
        self._log(run, entry)
        self._log_files(run_id, entry["figures"], "figures")
        self._end(run_id, entry["status"].upper(), entry["ended_at"] or entry["time"])
        self._client.set_tag(run_id, LOGGED_TAG, digest)
        self._runs()[entry["key"]] = self._client.get_run(run_id)

    def _trial_run(self, entry: Entry) -> "Run":
        if found := self._runs().get(entry["key"]):
            return found
        return self._client.create_run(
            self._experiment_id,
            start_time=records.milliseconds(entry["started_at"] or entry["time"]),
            tags={PARENT_TAG: self._parent_id, KEY_TAG: entry["key"], KIND_TAG: "trial"},
            run_name=entry["name"],
        )

    def _runs(self) -> "dict[str, Run]":
        """The study's child runs by key, asked for once."""
        if self._children is None:
            ours = f"tags.`{PARENT_TAG}` = '{self._parent_id}'"
            page = self._client.search_runs([self._experiment_id], ours)
            runs = list(page)
            while page.token:
                page = self._client.search_runs([self._experiment_id], ours, page_token=page.token)
                runs += page
            self._children = {run.data.tags[KEY_TAG]: run for run in runs if KEY_TAG in run.data.tags}
        return self._children

    def _log(self, run: "Run", fields: Entry) -> None:
        """Adds the parameters, tags and points that the run does not have yet; fields may lack any of them."""
        from mlflow.entities import Metric, Param, RunTag

        run_id, there = run.info.run_id, run.data.params
        params = {name: value[:PARAM_LENGTH] for name, value in fields.get("params", {}).items()}
        for name in sorted(name for name in params.keys() & there.keys() if params[name] != there[name]):
            self._warn(f"MLflow keeps '{name}' of '{run.info.run_name}' at {there[name]}, it is now {params[name]}")
        new = [Param(name, value) for name, value in params.items() if name not in there]
        tags = [RunTag(name, value) for name, value in fields.get("tags", {}).items()]
        for new_params in records.batches(new, PARAMS_PER_BATCH):
            self._client.log_batch(run_id, params=new_params)
        for some_tags in records.batches(tags, PARAMS_PER_BATCH):
            self._client.log_batch(run_id, tags=some_tags)
        stamp = records.milliseconds(fields["time"])
        points = [Metric(name, value, stamp, step) for name, step, value in self._new_points(run, fields)]
        for new_points in records.batches(points, POINTS_PER_BATCH):
            self._client.log_batch(run_id, metrics=new_points)

    def _new_points(self, run: "Run", fields: Entry) -> Iterator[tuple[str, int, float]]:
        curves = {name: [(0, value)] for name, value in fields.get("metrics", {}).items()} | fields.get("curves", {})
        for name, points in curves.items():
            there = set()
            if name in run.data.metrics:
                history = self._client.get_metric_history(run.info.run_id, name)
                there = {(point.step, records.comparable(point.value)) for point in history}
            for step, value in points:
                if (step, records.comparable(value)) not in there:
                    yield name, step, value

    def _log_files(self, run_id: str, files: Mapping[str, str], folder: str | None = None) -> None:
        for name, file in files.items():
            path = Path(file)
            if not path.exists():
                self._warn(f"{path} is gone: not logged to MLflow")
                continue
            with tempfile.TemporaryDirectory() as temporary:
                # MLflow names a file by its last part; figures of several attacks may share one.
                named = Path(temporary) / (name.replace("/", "_").removesuffix(path.suffix) + path.suffix)
                shutil.copy(path, named)
                self._client.log_artifact(run_id, str(named), folder)

    def _end(self, run_id: str, status: str, at: float) -> None:
        self._client.set_terminated(run_id, status, end_time=records.milliseconds(at))


def _client(uri: str) -> "MlflowClient":
    # A lost answer must come back here, where runs are looked up before they are made: MLflow's own retry makes two.
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_SECONDS))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _create_database(path: Path) -> None:
    """Makes MLflow's tables beside `path`, then moves them there: MLflow refuses tables whose making was cut short."""
    if path.exists() and path.stat().st_size > 0:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as temporary:
        made = Path(temporary) / path.name
        _client(f"sqlite:///{made}").search_experiments(max_results=1)
        # Another study may have made it meanwhile, and may have runs in it.
        if not (path.exists() and path.stat().st_size > 0):
            os.replace(made, path)


def _check_server(uri: str) -> None:
    address = redacted(uri)
    try:
        _client(uri).search_experiments(max_results=1)
    except Exception as error:
        status = error.get_http_status_code() if hasattr(error, "get_http_status_code") else None
        remedies: dict[int | None, str] = {
            401: "refuses these credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            403: f"refuses it: start it with --allowed-hosts {urlsplit(address).netloc} or give the user access",
        }
        otherwise = "does not answer as an MLflow server: start one (deploy/README.md) or correct the address"
        raise InputError(f"--tracking-uri: {address} {remedies.get(status, otherwise)}") from error
