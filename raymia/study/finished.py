"""A finished study, read back from its folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from raymia.config import StudyConfig
from raymia.errors import InputError
from raymia.metrics.results import UNDEFENDED
from raymia.metrics.summary import hyperparameters
from raymia.metrics.table import read_csv
from raymia.space import Branch, Search, Space
from raymia.study.folder import RECORD

Row = Mapping[str, Any]


@dataclass(frozen=True)
class FinishedStudy:
    """record: its study.json. config: resolved. rows: of its `frontier.csv`."""

    name: str
    record: Mapping[str, Any]
    config: StudyConfig
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """Its space's name."""
        return str(self.record["space"])

    @property
    def settings(self) -> list[str]:
        """The measured settings, as the table names them, in its order."""
        return list(dict.fromkeys(str(row["setting"]) for row in self.rows))

    def space(self, settings: Sequence[str], name: str) -> Space:
        """The space of some of its settings alone; undefended, which every space has, is always among them."""
        firsts = [next(row for row in self.rows if row["setting"] == setting) for setting in settings]
        return Space(name, "", Search(), tuple(branch for row in firsts if (branch := _branch(row)).defenses))


def read_finished(folder: Path) -> FinishedStudy:
    """The study in this folder. Raises InputError where it holds none that is complete."""
    record = _record(folder)
    return FinishedStudy(folder.name, record, _config(folder), tuple(read_csv(folder / "frontier.csv")))


def _record(folder: Path) -> Mapping[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{folder}: holds no study that can be read; give the folder of a finished one") from None
    if not isinstance(record, dict) or record.get("status") != "complete" or not (folder / "frontier.csv").is_file():
        raise InputError(f"{folder}: the study is not complete; finish it with the command that began it")
    return record


def _config(folder: Path) -> StudyConfig:
    try:
        return StudyConfig.model_validate(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError):
        raise InputError(f"{folder}: config.yaml is damaged or of another version; run the study again") from None


def _branch(row: Row) -> Branch:
    """The row's setting as a branch of one setting; of undefended, which every space has, an empty one."""
    if row["defense"] == UNDEFENDED:
        return Branch({})
    defenses: dict[str, dict[str, tuple[Any, ...]]] = {name: {} for name in str(row["defense"]).split("+")}
    for dotted, value in hyperparameters(row).items():
        defense, _, name = dotted.partition(".")
        defenses[defense][name] = (value,)
    return Branch(defenses)
