"""A study's records, and what an MLflow store holds of them."""

from pathlib import Path
from typing import Any

from raymia.tracking import StudyRecord, Tracker, TrialRecord

EXPERIMENT = "raymia/digits"
STUDY = StudyRecord(
    "study0", "mixup_alpha on digits", {"space": "mixup_alpha", "seed": 0}, {"data": "f00d"}, "seed: 0\n"
)


def trial(alpha: float, **changes: Any) -> TrialRecord:
    fields: dict[str, Any] = {
        "key": f"key{alpha}",
        "name": f"mixup alpha={alpha}",
        "params": {"alpha": alpha},
        "metrics": {"attack/loss/auc": 0.5 + alpha / 10, "attack/loss/tpr_at_fpr_0.001": 0.25, "test_accuracy": 0.9},
        "curves": {"train_loss": [(epoch, 1 / epoch) for epoch in range(1, 6)]},
        "tags": {"device_seconds": "3"},
        "started_at": 1e9,
        "ended_at": 1e9 + 60,
    }
    return TrialRecord(**{**fields, **changes})


class Logged:
    """What an MLflow store holds of one study, read through MLflow's own client."""

    def __init__(self, uri: str, study: StudyRecord = STUDY) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        self.experiment = self.client.get_experiment_by_name(EXPERIMENT)
        runs = list(self.client.search_runs([self.experiment.experiment_id]))
        self.parents = [run for run in runs if run.data.tags["raymia.kind"] == "study"]
        self.trials = {run.info.run_name: run for run in runs if run.data.tags["raymia.kind"] == "trial"}
        self.run_count = len(runs)

    def points(self, run: Any) -> list[tuple[str, int, float]]:
        names = sorted(run.data.metrics)
        histories = [(name, self.client.get_metric_history(run.info.run_id, name)) for name in names]
        return sorted((name, point.step, point.value) for name, history in histories for point in history)

    def files(self, run: Any, folder: str | None = None) -> list[str]:
        return sorted(item.path for item in self.client.list_artifacts(run.info.run_id, folder))


def expected_points(record: TrialRecord) -> list[tuple[str, int, float]]:
    finals = [(name, 0, value) for name, value in record.metrics.items()]
    return sorted(finals + [(name, step, value) for name, points in record.curves.items() for step, value in points])


def log(uri: str, spool: Path, *trials: TrialRecord, study: StudyRecord = STUDY, finish: bool = True) -> list[str]:
    """One session of a study; returns its warnings."""
    with Tracker.open(uri, EXPERIMENT, study, spool) as tracker:
        for record in trials:
            tracker.trial(record)
        if finish:
            tracker.study_finished({"worst_attack_auc": 0.53})
    return tracker.warnings
