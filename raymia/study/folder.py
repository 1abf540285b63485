"""A study's own folder under the results: one study at a time, its record, and what it leaves for people."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from raymia.errors import InputError
from raymia.files import write_whole
from raymia.study.lock import held, in_use, is_held
from raymia.study.study import Study

RECORD = "study.json"
_LEAST_FREE_BYTES = 500 << 20
_FAILURE = "failure-"
# Folders of the results that belong to no study.
_TAKEN = ("artifacts", "mlartifacts")


def check_name(name: str) -> None:
    """Raise InputError unless this can be the name of a study's folder."""
    if not name or name.startswith(".") or "/" in name or "\\" in name or name in _TAKEN:
        raise InputError(f"--name {name!r}: cannot name a study's folder; give a plain word other than {_TAKEN[0]}")


def check_place(results: Path) -> None:
    """Raise InputError where no study can be written under these results."""
    if (results / RECORD).is_file():
        raise InputError(f"--results {results}: is itself a study's folder; give the folder above it, {results.parent}")
    existing = next(folder for folder in (results, *results.parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"--results {results}: {existing} cannot be written; give another folder")
    free = shutil.disk_usage(existing).free
    if free < _LEAST_FREE_BYTES:
        raise InputError(
            f"--results {results}: only {free >> 20} MiB are free on that disk; free some space "
            "(raymia clean lists what no study uses) or give another folder"
        )


class StudyFolder:
    """`results/<name>/`, which belongs to one study."""

    def __init__(self, results: Path, name: str) -> None:
        self.path = results / name
        self.name = name

    def check(self, study: Study) -> None:
        """Raise InputError where the folder holds another study, or another process works on it."""
        record = self.record()
        if record is not None and record.get("key") != study.key:
            raise InputError(
                f"--name {self.name}: {self.path} holds another study ({_difference(record, study)}); "
                "give another --name, or none"
            )
        if is_held(self.path):
            raise in_use(self.path)

    def record(self) -> dict[str, Any] | None:
        """The study.json of an earlier run, or None. Raises InputError when it is not readable."""
        try:
            content = json.loads((self.path / RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            content = None
        if not isinstance(content, dict):
            raise InputError(
                f"{self.path / RECORD} is damaged; remove the folder (the trained models are kept elsewhere)"
            )
        return content

    @property
    def status(self) -> str | None:
        """What the record says of the last run: running, interrupted, failed or complete; None without a record."""
        record = self.record()
        return None if record is None else str(record.get("status"))

    def held(self) -> AbstractContextManager[None]:
        """Hold the folder against a second process. Raises InputError when another has it."""
        return held(self.path)

    def write_record(self, study: Study, status: str, history: Mapping[str, Any], **more: Any) -> None:
        """Write study.json: what was run, on what, with what outcome. history: by which versions, in which sessions."""
        content = {
            "name": self.name,
            "key": study.key,
            "status": status,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "space": study.space.name,
            "config": study.config.model_dump(mode="json"),
            "data": {
                "source": study.facts.source,
                "fingerprint": study.facts.fingerprint,
                "records": study.facts.records,
                "classes": list(study.facts.class_names),
                "records_per_class": list(study.facts.counts),
                "duplicates_dropped": study.facts.duplicates_dropped,
            },
            **history,
            **more,
        }
        self.write_text(RECORD, json.dumps(content, indent=2) + "\n")
        self.write_text("config.yaml", study.config.to_yaml())

    def forget_failures(self) -> None:
        """Remove what an earlier run wrote of settings that failed: they are tried again."""
        for story in self.path.glob(f"{_FAILURE}*.txt"):
            story.unlink()

    def write_failure(self, number: int, story: str) -> None:
        """Keep why a setting failed, in full."""
        self.write_text(f"{_FAILURE}{number}.txt", story)

    def add_lines(self, name: str, text: str) -> None:
        """Add to a file of the folder those lines that it lacks."""
        path = self.path / name
        there = path.read_text(encoding="utf-8") if path.is_file() else ""
        self.write_text(name, "".join(f"{line}\n" for line in dict.fromkeys((there + text).splitlines())))

    def write_text(self, name: str, text: str) -> Path:
        """Replace a file of the folder as a whole."""
        path = self.path / name
        write_whole({path: text.encode("utf-8")})
        return path


def git_commit() -> str | None:
    """The commit that raymia's own source is at, with `+` when it was changed since; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--", str(folder.parent))
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()


def _difference(record: dict[str, Any], study: Study) -> str:
    """The first setting in which two studies differ, in words."""
    theirs, ours = _flat(record.get("config", {})), _flat(yaml.safe_load(study.config.to_yaml()))
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            return f"{key} is {theirs.get(key)} there, {ours.get(key)} here"
    if record.get("space") != study.space.name:
        return f"space {record.get('space')} there, {study.space.name} here"
    return "its data, its space or the code's version differ"


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
