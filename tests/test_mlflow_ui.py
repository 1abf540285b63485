"""The study in MLflow's own pages, in a real browser."""

from pathlib import Path

import pytest

from raymia.tracking import StudyRecord, Tracker, TrialRecord, default_tracking_uri
from tests.support.mlflow_ui import CHROMIUM, chromium, mlflow_server, show_child_runs, wait_for_text

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium at /usr/bin/chromium (`make test` installs it)"),
    # mlflow 3.17 with SQLAlchemy 2.1 (November 2026).
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


def test_study_trials_and_auc_are_on_the_page(tmp_path: Path) -> None:
    uri = default_tracking_uri(tmp_path / "results")
    study = StudyRecord("study0", "mixup_alpha on digits", {"space": "mixup_alpha"}, config_yaml="seed: 0\n")
    with Tracker.open(uri, "raymia/digits", study, tmp_path / "spool.jsonl") as tracker:
        for alpha, auc in ((0.1, 0.6125), (0.3, 0.5375)):
            metrics = {"attack/loss/auc": auc, "test_accuracy": 0.9}
            tracker.trial(TrialRecord(f"k{alpha}", f"mixup alpha={alpha}", {"alpha": alpha}, metrics))
        tracker.study_finished({"worst_attack_auc": 0.6125})
    assert tracker.warnings == []

    import mlflow

    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("raymia/digits")
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    with (
        mlflow_server(tmp_path / "server", tmp_path / "results" / "mlflow.db") as server,
        chromium(tmp_path) as browser,
    ):
        pages = f"{server.uri}/#/experiments/{experiment.experiment_id}/runs"
        browser.get(pages)
        wait_for_text(browser, "raymia/digits", "mixup_alpha on digits")
        show_child_runs(browser)
        wait_for_text(browser, "mixup alpha=0.1", "mixup alpha=0.3")
        browser.save_screenshot(str(tmp_path / "runs.png"))
        browser.get(f"{pages}/{runs['mixup alpha=0.1']}")
        wait_for_text(browser, "mixup alpha=0.1", "attack/loss/auc", "0.6125")
        browser.save_screenshot(str(tmp_path / "run.png"))
