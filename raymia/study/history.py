"""Which sessions made a study: when, at which commit, by which versions, on what machine, and for how long."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raymia.recipes.recipe import MODELS
from raymia.study.folder import git_commit

_PACKAGES = ("raymia", "torch", "torchvision", "ray", "mlflow", "numpy", "scipy", "optuna")
_MADE_BY = ("versions", "python", "machine", "git_commit")

Told = dict[str, Any]


@dataclass
class History:
    """The sessions that made what is in a study's folder, as `study.json` tells of them; this one is the last.

    earlier: as the record had them. started: of this session, Unix seconds. built: how many recipes of each kind it
    made; None until that is known.
    """

    earlier: Sequence[Told]
    started: float = field(default_factory=time.time)
    built: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        # Looked up now: a checkout may move on while the study runs.
        self._made_by = made_by()

    def told(self, *, ended: bool) -> Told:
        """The record's part: the sessions, and by what the last of them that made something did so.

        A session that made nothing is told of only where there is no other.
        """
        mine = {
            "started": _written(self.started),
            "finished": _written(time.time()) if ended else None,
            "wall_seconds": round(time.time() - self.started, 1),
            "models": None if self.built is None else sum(self.built.get(kind, 0) for kind in MODELS),
            **self._made_by,
        }
        made_nothing = self.built is not None and not sum(self.built.values())
        sessions = list(self.earlier) if made_nothing and self.earlier else [*self.earlier, mine]
        return {**{name: sessions[-1][name] for name in _MADE_BY}, "sessions": sessions}


def told_sessions(record: Mapping[str, Any] | None) -> list[Told]:
    """The sessions in a study's record; of one written before they were listed, the only one that it knew."""
    if record is None:
        return []
    if "sessions" in record:
        return list(record["sessions"])
    only = {"started": None, "finished": record.get("written"), "models": None}
    seconds = record.get("cost", {}).get("wall_seconds")
    return [{**only, "wall_seconds": seconds, **{name: record.get(name) for name in _MADE_BY}}]


def wall_seconds(told: Told) -> float:
    """Of all the sessions, as far as they are known."""
    return round(sum(one["wall_seconds"] or 0.0 for one in told["sessions"]), 1)


def made_by() -> Told:
    """The code and the machine of this process."""
    return {
        "versions": {package: version(package) for package in _PACKAGES},
        "python": platform.python_version(),
        "machine": {"processor": _processor(), "cpus": os.cpu_count()},
        "git_commit": git_commit(),
    }


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
