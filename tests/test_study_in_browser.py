"""A real study, run by the command, as MLflow's own pages show it in a real browser."""

import os
import re
from pathlib import Path

import pytest

from tests.support.mlflow_ui import CHROMIUM, chromium, mlflow_server, show_child_runs, wait_for_text
from tests.support.small_study import command, frontier, run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium at /usr/bin/chromium (`make test` installs it)"),
]


def test_the_study_its_trials_and_an_auc_are_on_the_page(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = run(command(tmp_path, targets=2), environment)
    assert done.returncode == 0, done.stdout + done.stderr
    [auc] = [
        float(row["auc"])
        for row in frontier(tmp_path)
        if (row["setting"], row["attack"], row["seed"]) == ("mixup alpha=0.3", "loss", "pooled")
    ]
    with (
        mlflow_server(tmp_path / "server", tmp_path / "results/mlflow.db") as server,
        chromium(tmp_path) as browser,
    ):
        browser.get(f"{server.uri}/#/experiments")
        wait_for_text(browser, "raymia/digits")
        browser.find_element("link text", "raymia/digits").click()
        experiment = re.search(r"#/experiments/(\d+)", browser.current_url)
        assert experiment is not None, browser.current_url
        browser.get(f"{server.uri}/#/experiments/{experiment[1]}/runs")
        wait_for_text(browser, "study")
        show_child_runs(browser)
        wait_for_text(browser, "study", "none", "mixup alpha=0.3")
        browser.find_element("link text", "mixup alpha=0.3").click()
        page = wait_for_text(browser, "mixup alpha=0.3", "attack/loss/auc")
    shown = re.search(r"attack/loss/auc\s+([0-9.]+)", page)
    assert shown is not None, page
    assert float(shown[1]) == pytest.approx(auc, abs=0.5 * 10 ** -len(shown[1].partition(".")[2]))
