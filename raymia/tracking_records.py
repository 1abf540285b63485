"""What a study and a trial are to MLflow, as plain data."""

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

ERROR_TAG = "raymia.error"
VERIFIES_TAG = "raymia.verifies"
"""On a study's run: the key of the study that it verifies, whose child it then is."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class StudyRecord:
    """The parent run. `key` is the study's content hash; `config_yaml` the resolved configuration."""

    key: str
    name: str
    params: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    config_yaml: str = ""


@dataclass(frozen=True)
class TrialRecord:
    """A child run. `key` is the setting's content hash, `name` its label such as `mixup alpha=0.3`.

    metrics: final values by name, such as `attack/loss/auc`; curves: (step, value) pairs by name, names not among the
    metrics; figures: image files by name; started_at, ended_at: Unix seconds, now when not given.
    """

    key: str
    name: str
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Path] = field(default_factory=dict)
    status: Literal["finished", "failed"] = "finished"
    error: str | None = None
    started_at: float | None = None
    ended_at: float | None = None

    def __post_init__(self) -> None:
        if both := set(self.metrics) & set(self.curves):
            raise ValueError(f"{sorted(both)} are given both as a metric and as a curve")


def trial_entry(record: TrialRecord) -> dict[str, Any]:
    """The trial as JSON can hold it; paths absolute, an error as a tag."""
    error = {ERROR_TAG: record.error} if record.error else {}
    return {
        "key": record.key,
        "name": record.name,
        "params": texts(record.params),
        "metrics": floats(record.metrics),
        "curves": {
            name: [[int(step), float(value)] for step, value in points] for name, points in record.curves.items()
        },
        "tags": {**record.tags, **error},
        "figures": {name: str(path.absolute()) for name, path in record.figures.items()},
        "status": record.status,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
    }


def content_digest(entry: Mapping[str, Any]) -> str:
    """Equal for two entries that say the same at different times."""
    content = {name: value for name, value in entry.items() if name not in ("time", "started_at", "ended_at")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def texts(values: Mapping[str, object]) -> dict[str, str]:
    """Parameters as MLflow keeps them."""
    return {name: str(value) for name, value in values.items()}


def floats(values: Mapping[str, float]) -> dict[str, float]:
    """Plain floats, whatever number type came."""
    return {name: float(value) for name, value in values.items()}


def comparable(value: float) -> float | None:
    """As MLflow stores it: NaN (equal to itself here) and infinities as the largest numbers."""
    return None if math.isnan(value) else max(-sys.float_info.max, min(sys.float_info.max, value))


def milliseconds(seconds: float) -> int:
    """Unix time as MLflow counts it."""
    return round(seconds * 1000)


def batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Lists of at most `size` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
