"""Wall time of the main command, from its start to its end."""

import os
import subprocess
import sys
import tempfile

from benchmarks.figure import Figure, seconds


def main_job(small: bool) -> list[Figure]:
    """`make tune` after set-up, and the same command again."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "raymia.tune", "--results", folder, "--quiet"]
        if small:
            command += ["--set", "plan.part_size=40", "--set", "plan.targets=1", "--set", "training.epochs=2"]
        first = seconds(lambda: _run(command))
        again = [seconds(lambda: _run(command)) for _ in range(1 if small else 3)]
    sizes = "tiny" if small else "the digits preset"
    return [
        Figure("`make tune` after set-up", first, " s", ("<", 120), f"mixup_alpha on {sizes}, Ray's start included"),
        Figure("a repeated, complete study", max(again), " s", ("<", 15), f"the slowest of {len(again)}"),
    ]


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
