"""What a study's folder tells of the sessions that made it, and what it keeps from `raymia clean` in each of them."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from raymia.clean import REFERENCES, unused_artifacts
from raymia.config import build_config
from raymia.engine.cluster import Cluster
from raymia.engine.workshop import Tally
from raymia.errors import RunError
from raymia.recipes.recipe import Bench, make
from raymia.records import load_records
from raymia.space import Space
from raymia.space_files import parse_space
from raymia.store import Store
from raymia.study import session as session_module
from raymia.study.facts import facts_of
from raymia.study.history import History, told_sessions, wall_seconds
from raymia.study.run import Audience, Trials
from raymia.study.session import Session
from raymia.study.standing import Standing, standing
from raymia.study.study import Study, assemble

TINY: dict[str, Any] = {
    "plan.part_size": 40,
    "plan.targets": 1,
    "training.epochs": 1,
    "training.precision": "fp32",
    "model.options.widths": [4, 8, 8],
    "attacks": ["loss"],
}
SPACE = parse_space({"settings": [{"mixup": {"alpha": [0.5]}}]}, Path("tiny.yaml"))
DIGITS = load_records("digits")
MACHINE = Cluster(nodes=("one",), shapes=((1.0, 0.0),), joined=False)
OLD = {
    "versions": {"raymia": "0.0.1"},
    "python": "3.11.0",
    "machine": {"processor": "of long ago", "cpus": 3},
    "git_commit": "0123456789",
}


class Untracked:
    """MLflow, away: it takes seconds to load."""

    warnings: tuple[str, ...] = ()

    def __enter__(self) -> "Untracked":
        return self

    def __exit__(self, *error: object) -> None:
        return

    def trial(self, record: object) -> None:
        return

    def study_finished(self, *content: object) -> None:
        return

    def close(self) -> None:
        return


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results whose artifacts are all there, and no study's folder."""
    results = tmp_path_factory.mktemp("trained")
    for recipe in the_study().recipes:
        make(recipe, Bench(DIGITS, Store(str(results / "artifacts"))))
    return results


@pytest.fixture
def tags(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The tags of each session's run in MLflow, which is away, as Ray and the figures are."""
    seen: list[dict[str, str]] = []

    def open_tracker(uri: str, experiment: str, record: Any, spool: Path) -> Untracked:
        seen.append(dict(record.tags))
        return Untracked()

    monkeypatch.setattr("raymia.study.session.Tracker.open", open_tracker)
    monkeypatch.setattr("raymia.engine.cluster.started", None)
    monkeypatch.setattr(session_module, "write_report", lambda *content: [])
    return seen


def the_study(space: Space = SPACE) -> Study:
    return assemble(build_config("digits", TINY), space, facts_of(DIGITS))


def a_session(results: Path, name: str, fresh: bool = False, space: Space = SPACE) -> Session:
    return Session(build_config("digits", TINY), space, str(results), name, None, None, fresh, True)


def search(session: Session, seconds: float) -> int:
    """A session that trains, and began so long ago."""
    study = the_study(session.space)
    folder = session._folder(study)
    with folder.held():
        return session._search(study, folder, MACHINE, DIGITS, time.time() - seconds)


def record(results: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((results / name / "study.json").read_text())
    return content


def made_long_ago(results: Path, name: str, **changes: Any) -> None:
    """Have the record of a study tell of another machine and code; changes: None removes a field."""
    content = record(results, name) | OLD | changes
    kept = {field: value for field, value in content.items() if value is not None}
    (results / name / "study.json").write_text(json.dumps(kept))


def made_by(found: dict[str, Any]) -> dict[str, Any]:
    return {field: found[field] for field in OLD}


def listed(results: Path, name: str) -> set[str]:
    return set((results / name / REFERENCES).read_text().split())


def test_a_study_found_complete_lists_what_it_stands_on(trained: Path, tags: list[dict[str, str]]) -> None:
    store = Store(str(trained / "artifacts"))
    assert len(unused_artifacts(trained, store)) > 8
    assert a_session(trained, "other").run(False) == 0
    assert unused_artifacts(trained, store) == {}


def test_the_list_of_a_complete_study_is_written_before_anything_is_read(
    trained: Path, tags: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: object) -> None:
        assert listed(trained, "early") >= {name for one in the_study().recipes for name in one.artifacts}
        raise RunError("far enough")

    monkeypatch.setattr(session_module, "read_measured", read)
    with pytest.raises(RunError, match="far enough"):
        a_session(trained, "early").run(False)


def test_a_repeated_study_keeps_who_made_it_and_how_long_it_took(trained: Path, tags: list[dict[str, str]]) -> None:
    a_session(trained, "kept").run(False)
    [only] = record(trained, "kept")["sessions"]
    assert only["models"] == 0
    long = {**only, **OLD, "wall_seconds": 7200.5, "models": 4}
    made_long_ago(trained, "kept", sessions=[long])
    for _ in range(2):
        assert a_session(trained, "kept").run(False) == 0
        found = record(trained, "kept")
        assert found["sessions"] == [long]
        assert made_by(found) == OLD
        assert found["cost"]["wall_seconds"] == 7200.5
        assert found["cost"]["models"] == 4
        assert tags[-1]["raymia.git_commit"] == OLD["git_commit"]
    assert tags[0]["raymia.git_commit"] == (only["git_commit"] or "unknown")


def test_a_record_without_sessions_is_of_one(trained: Path, tags: list[dict[str, str]]) -> None:
    a_session(trained, "old").run(False)
    cost = {"wall_seconds": 985.5, "device_seconds": 1.0, "models": 4}
    made_long_ago(trained, "old", sessions=None, written="2026-11-22T10:41:59+00:00", cost=cost)
    assert a_session(trained, "old").run(False) == 0
    found = record(trained, "old")
    assert made_by(found) == OLD
    assert found["cost"]["wall_seconds"] == 985.5
    [only] = found["sessions"]
    unknown = {"started": None, "finished": "2026-11-22T10:41:59+00:00", "models": None}
    assert only == {**unknown, "wall_seconds": 985.5, **OLD}


class Trainer:
    """In the place of Ray: makes the first `count` of the study's settings and fails with `end`, if any."""

    def __init__(self, results: Path, name: str, count: int, end: BaseException | None = None) -> None:
        self.results, self.name, self.count, self.end = results, name, count, end
        self.seen: list[dict[str, Any]] = []
        self.lists: list[set[str]] = []

    def __call__(
        self, study: Study, store: Store, cluster: Any, records: Any, found: Standing, audience: Audience
    ) -> Trials:
        trials, before = Trials(), found.reused
        self.seen.append(record(self.results, self.name))
        for number, setting in enumerate(study.settings[: self.count]):
            trials.settings.append((setting, study.result(setting)))
            audience.ordered(trials)
            self.lists.append(listed(self.results, self.name))
            make(trials.settings[number][1], Bench(records, store))
            trials.done.add(number)
            trials.started[number] = time.time()
            made_long_ago(self.results, self.name, status="before this setting")
            audience.finished(trials, number)
            self.seen.append(record(self.results, self.name))
        if self.end is not None:
            raise self.end
        trials.tally = Tally(built={"models": found.models - before, "results": self.count})
        return trials


def train(monkeypatch: pytest.MonkeyPatch, trainer: Trainer, seconds: float, **options: Any) -> None:
    monkeypatch.setattr("raymia.study.run.run_trials", trainer)
    session = a_session(trainer.results, trainer.name, **options)
    if trainer.end is None:
        assert search(session, seconds) == 0
    else:
        with pytest.raises(type(trainer.end)):
            search(session, seconds)


def test_sessions_add_up(tmp_path: Path, tags: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """One interrupted, one killed, one that ends the study; then one that makes it anew."""
    train(monkeypatch, Trainer(tmp_path, "cut", 1, KeyboardInterrupt()), 10_000)
    found = record(tmp_path, "cut")
    assert found["status"] == "interrupted"
    [first] = found["sessions"]
    assert first["models"] is None
    assert first["finished"] > first["started"]
    assert 10_000 <= first["wall_seconds"] < 15_000
    made_long_ago(tmp_path, "cut", sessions=[{**first, **OLD}])

    killed = Trainer(tmp_path, "cut", 1, KeyboardInterrupt())
    train(monkeypatch, killed, 20_000)
    # A process that is killed leaves its record as it was after the last setting.
    (tmp_path / "cut" / "study.json").write_text(json.dumps(killed.seen[-1]))
    assert killed.seen[-1]["status"] == "running"
    assert [one["finished"] for one in killed.seen[-1]["sessions"]] == [first["finished"], None]
    assert 20_000 <= killed.seen[-1]["sessions"][1]["wall_seconds"] < 25_000

    train(monkeypatch, Trainer(tmp_path, "cut", 2), 40_000)
    found = record(tmp_path, "cut")
    assert found["status"] == "complete"
    assert found["sessions"][0]["git_commit"] == OLD["git_commit"]
    assert [one["models"] for one in found["sessions"]] == [None, None, 2]
    assert found["versions"] == found["sessions"][2]["versions"] != OLD["versions"]
    assert found["cost"]["wall_seconds"] == pytest.approx(sum(one["wall_seconds"] for one in found["sessions"]))
    assert 70_000 <= found["cost"]["wall_seconds"] < 75_000

    assert a_session(tmp_path, "cut").run(False) == 0
    again = record(tmp_path, "cut")
    assert (again["sessions"], again["cost"]) == (found["sessions"], found["cost"])

    train(monkeypatch, Trainer(tmp_path, "cut", 2), 5_000, fresh=True)
    found = record(tmp_path, "cut")
    assert [one["models"] for one in found["sessions"]] == [4]
    assert 5_000 <= found["cost"]["wall_seconds"] < 10_000


def test_a_study_that_looks_for_its_artifacts_has_listed_them(
    tmp_path: Path, tags: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(study: Study, store: Store) -> Standing:
        assert listed(tmp_path, "first") >= {name for one in study.recipes for name in one.artifacts}
        return standing(study, store)

    monkeypatch.setattr(session_module, "standing", look)
    train(monkeypatch, Trainer(tmp_path, "first", 2), 1)


def test_what_an_interrupted_session_listed_stays_listed_until_the_end(
    tmp_path: Path, tags: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search by Optuna names its settings by and by, and anew with every session."""
    (tmp_path / "optuna").mkdir()
    (tmp_path / "optuna" / REFERENCES).write_text("models/of-a-later-batch/epoch-0001\n")
    later = {"models/of-a-later-batch/epoch-0001"}
    trainer = Trainer(tmp_path, "optuna", 1, KeyboardInterrupt())
    train(monkeypatch, trainer, 1)
    assert all(one >= later for one in trainer.lists)
    assert listed(tmp_path, "optuna") >= later
    train(monkeypatch, Trainer(tmp_path, "optuna", 2), 1)
    assert not listed(tmp_path, "optuna") & later
    assert unused_artifacts(tmp_path, Store(str(tmp_path / "artifacts"))) == {}


def test_a_session_that_made_nothing_is_told_of_only_alone() -> None:
    first = History([], built={}).told(ended=True)
    assert [one["models"] for one in first["sessions"]] == [0]
    assert History(first["sessions"], built={"models": 0}).told(ended=True) == first
    scored = History(first["sessions"], built={"scores": 2}).told(ended=True)
    assert [one["models"] for one in scored["sessions"]] == [0, 0]
    both = History(scored["sessions"], built={"models": 2, "generators": 3, "scores": 1}).told(ended=True)
    assert both["sessions"][-1]["models"] == 5
    assert told_sessions(both) == both["sessions"]
    assert told_sessions(None) == []


def test_unknown_times_do_not_count() -> None:
    told = {"sessions": [{"wall_seconds": None}, {"wall_seconds": 1.25}, {"wall_seconds": 2.0}]}
    assert wall_seconds(told) == pytest.approx(3.2, abs=0.06)
