"""The main command on a study that is real, but small: two settings, a few dozen records."""

import csv
import subprocess
import sys
from pathlib import Path

SPACE = """\
description: "one defense"
settings:
  - mixup: {alpha: [0.3]}
"""


def command(folder: Path, *more: str, targets: int = 1) -> list[str]:
    """The command of a study whose results go to `folder`/results/study; `more`: further arguments."""
    (folder / "one_mixup.yaml").write_text(SPACE)
    settings = ["plan.part_size=40", f"plan.targets={targets}", "training.epochs=2"]
    assignments = [part for setting in settings for part in ("--set", setting)]
    start = [sys.executable, "-m", "raymia.tune", "--space", str(folder / "one_mixup.yaml"), "--name", "study"]
    return [*start, "--results", str(folder / "results"), "--quiet", *assignments, *more]


def run(command: list[str], environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run it to its end."""
    return subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)


def frontier(folder: Path) -> list[dict[str, str]]:
    """The rows of the study's table."""
    with (folder / "results/study/frontier.csv").open(newline="") as file:
        return list(csv.DictReader(file))
