"""A stage whose source changes must change its version, or old artifacts would be taken for new ones."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from raymia.versions import VERSIONS
from tests import lock_stages
from tests.lock_stages import (
    IDLE,
    ROOT,
    SOURCES,
    changed_under_the_same_version,
    current,
    defenses_by_file,
    files_of,
    locked,
    main,
    meaning,
)

SOURCE = '''
"""A module."""

def rate(x: float) -> float:
    """Half of it."""
    # Half is enough.
    if x < 0:
        raise ValueError(f"x is {x}")
    return x * 0.5
'''


def test_no_stage_changed_without_its_version() -> None:
    changed = changed_under_the_same_version(locked(), current())
    assert not changed, (
        f"the source of {', '.join(changed)} changed: raise the version in raymia/versions.py (or `version` of the "
        "defense), then run `python -m tests.lock_stages`"
    )


def test_the_lock_is_up_to_date() -> None:
    assert locked() == current(), "run `python -m tests.lock_stages`"


def test_every_version_is_locked() -> None:
    assert set(SOURCES) == set(VERSIONS)
    assert all(version >= 1 for version in VERSIONS.values())


def test_every_file_of_a_stages_package_belongs_to_a_stage() -> None:
    packages = [source for sources in SOURCES.values() for source in sources if not source.endswith(".py")]
    there = {path.relative_to(ROOT).as_posix() for package in packages for path in (ROOT / package).rglob("*.py")}
    counted = {path.relative_to(ROOT).as_posix() for stage in SOURCES for path in files_of(stage)}
    assert there - counted == IDLE
    assert all((ROOT / source).exists() for sources in SOURCES.values() for source in sources)


def test_every_file_of_a_defense_is_locked() -> None:
    files = {path.name for path, _ in defenses_by_file()}
    assert files == {path.name for path in (ROOT / "raymia" / "defenses").glob("*.py")} - {"__init__.py"}
    assert {"defense none", "defense mixup", "defense relaxloss"} <= set(current())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# Half is enough.", "# Why not."),
        ("Half of it.", "One half."),
        ("A module.", "The module."),
        ("x is {x}", "x must not be negative, got {x}"),
        ("x * 0.5", "(x  *  0.5)"),
    ],
)
def test_wording_and_layout_do_not_count(old: str, new: str) -> None:
    assert old in SOURCE
    assert meaning(SOURCE.replace(old, new)) == meaning(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.5", "0.25"),
        ("x < 0", "x <= 0"),
        ("raise ValueError", "raise TypeError"),
        ("return x", "return 2 * x"),
        ("def rate", "def half"),
    ],
)
def test_everything_else_does(old: str, new: str) -> None:
    assert old in SOURCE
    assert meaning(SOURCE.replace(old, new)) != meaning(SOURCE)


def test_a_docstring_alone_and_none_at_all_are_the_same() -> None:
    assert meaning('def f():\n    """Nothing."""\n') == meaning('def f():\n    """Still nothing."""\n')


@pytest.mark.parametrize("stage", ["training", "defense mixup"])
def test_a_changed_source_is_told_by_its_stage(stage: str) -> None:
    now, lock = current(), current()
    lock[stage] |= {"digest": "another"}
    assert changed_under_the_same_version(lock, now) == [stage]
    lock[stage] |= {"version": 0}
    assert changed_under_the_same_version(lock, now) == []


@pytest.fixture
def stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock in which the training's source is another one."""
    lock = current()
    lock["training"] |= {"digest": "another"}
    path = tmp_path / "stages.lock.json"
    path.write_text(json.dumps(lock))
    monkeypatch.setattr(lock_stages, "LOCK", path)
    return path


def test_locking_refuses_a_changed_source_under_an_old_version(stale: Path) -> None:
    before = stale.read_text()
    refused = CliRunner().invoke(main, [])
    assert refused.exit_code == 1
    assert "training: the source changed and the version did not. Raise the version" in refused.output
    assert '--same-results "training"' in refused.output
    assert CliRunner().invoke(main, ["--same-results", "trainin"]).exit_code == 2
    assert stale.read_text() == before


@pytest.mark.usefixtures("stale")
def test_locking_takes_the_word_that_results_are_the_same() -> None:
    assert CliRunner().invoke(main, ["--same-results", "training"]).exit_code == 0
    assert locked() == current()


@pytest.mark.usefixtures("stale")
def test_locking_takes_a_raised_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VERSIONS, "training", VERSIONS["training"] + 1)
    assert CliRunner().invoke(main, []).exit_code == 0
    assert locked() == current()
    assert locked()["training"]["version"] == VERSIONS["training"]
