"""`raymia clean`: only what no study uses is freed."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from raymia.clean import REFERENCES, clean, unused_artifacts
from raymia.commands import guarded
from raymia.store import Store
from raymia.study.lock import held


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results with a finished and an interrupted study, and artifacts that only a removed study used."""
    store = Store(str(tmp_path / "artifacts"))
    for name in ("models/a/epoch-0002", "signals/a", "models/b/epoch-0002", "checkpoints/b", "facts/x"):
        store.write(name, b"kept", {})
    store.write("models/old/epoch-0002", bytes(3_000_000), {})
    store.write("models/older/epoch-0002", bytes(1_000_000), {})
    store.write("scores/old", bytes(500_000), {})
    for study, names in (
        ("done", ["models/a/epoch-0002", "signals/a"]),
        ("cut", ["models/b/epoch-0002", "checkpoints/b"]),
    ):
        (tmp_path / study).mkdir()
        (tmp_path / study / REFERENCES).write_text("\n".join(names) + "\n")
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = guarded(lambda: clean.main(list(arguments), standalone_mode=False))
    return code, output.getvalue(), errors.getvalue()


def names(results: Path) -> set[str]:
    return {name for name, _ in Store(str(results / "artifacts")).names()}


KEPT = {"models/a/epoch-0002", "signals/a", "models/b/epoch-0002", "checkpoints/b", "facts/x"}


def test_it_lists_by_kind_and_frees_what_no_study_uses(results: Path) -> None:
    code, output, errors = run("--results", str(results), "--yes")
    assert (code, errors) == (0, "")
    lines = [line.split() for line in output.splitlines()]
    assert lines[0][:5] == ["models", "2", "unused", "4.0", "MB"]
    assert lines[1][:5] == ["scores", "1", "unused", "0.5", "MB"]
    assert lines[2] == ["freed", "4.5", "MB"]
    assert names(results) == KEPT


@pytest.mark.parametrize(("answer", "freed"), [(True, True), (False, False)])
def test_it_asks_first(results: Path, answer: bool, freed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def confirm(text: str) -> bool:
        asked.append(text)
        return answer

    monkeypatch.setattr(click, "confirm", confirm)
    monkeypatch.setattr("raymia.clean._somebody_is_there", lambda: True)
    before = names(results)
    code, output, _ = run("--results", str(results))
    assert code == 0
    assert asked == ["free 4.5 MB?"]
    assert names(results) == (KEPT if freed else before)
    assert ("freed" in output) is freed


def test_what_a_study_lists_while_the_question_stands_stays(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reused = {"models/old/epoch-0002", "scores/old"}

    def confirm(text: str) -> bool:
        (results / "new").mkdir()
        (results / "new" / REFERENCES).write_text("\n".join(reused) + "\n")
        Store(str(results / "artifacts")).write("models/newer/epoch-0002", b"nobody was asked", {})
        return True

    monkeypatch.setattr(click, "confirm", confirm)
    monkeypatch.setattr("raymia.clean._somebody_is_there", lambda: True)
    code, output, _ = run("--results", str(results))
    assert code == 0
    assert names(results) == KEPT | reused | {"models/newer/epoch-0002"}
    assert output.splitlines()[-1] == "freed 1.0 MB"


def test_what_a_study_lists_and_makes_meanwhile_stays(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: set[str] = set()
    look = Store.names

    def names_of_a_running_study(store: Store) -> Iterator[tuple[str, int]]:
        """Another setting each time, listed before it is made, as studies do."""
        made.add(f"models/setting-{len(made)}/epoch-0002")
        (results / "cut" / REFERENCES).write_text("\n".join(made) + "\nmodels/b/epoch-0002\ncheckpoints/b\n")
        store.write(f"models/setting-{len(made) - 1}/epoch-0002", b"new", {})
        return look(store)

    monkeypatch.setattr(Store, "names", names_of_a_running_study)
    assert not made & unused_artifacts(results, Store(str(results / "artifacts"))).keys()
    run("--results", str(results), "--yes")
    monkeypatch.undo()
    assert made
    assert names(results) == KEPT | made


def test_a_buckets_artifacts_are_freed_by_the_lists_beside_the_command(
    results: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    uri = results.as_uri()
    before = names(results)
    code, output, errors = run("--results", uri, "--yes")
    assert (code, output) == (2, "")
    assert errors.startswith(f"raymia: --results {uri}: what its studies use is listed under results/")
    assert errors.count("\n") == 1
    assert names(results) == before
    # What people read of a study in a bucket lies in `results` here.
    (here / "results" / "done").mkdir(parents=True)
    (results / "done" / REFERENCES).rename(here / "results" / "done" / REFERENCES)
    code, output, errors = run("--results", f"{uri}/", "--yes")
    assert (code, errors) == (0, "")
    assert output.splitlines()[0].startswith(f"only studies under {here / 'results'} count")
    assert names(results) == {"models/a/epoch-0002", "signals/a", "facts/x"}
    assert run("--results", f"{uri}/none") == (2, "", f"raymia: --results {uri}/none: {NONE}\n")


NONE = "holds no artifacts; give the folder a study wrote to"


def test_nobody_to_answer_frees_nothing(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    before = names(results)
    code, output, errors = run("--results", str(results))
    assert (code, errors) == (0, "")
    assert "nothing freed, since nobody can be asked; --yes frees them" in output
    assert names(results) == before


def test_nothing_to_free(results: Path) -> None:
    run("--results", str(results), "--yes")
    assert run("--results", str(results)) == (0, "every artifact is used by a study; nothing to free\n", "")


def test_a_removed_studys_artifacts_become_free(results: Path) -> None:
    (results / "cut" / REFERENCES).unlink()
    run("--results", str(results), "--yes")
    assert names(results) == KEPT - {"models/b/epoch-0002", "checkpoints/b"}


def test_what_a_running_study_is_writing_stays_until_it_has_ended(results: Path) -> None:
    half = {"models/b/.epoch-0002.0123", "probes/1"}
    for name in half:
        (results / "artifacts" / name).parent.mkdir(exist_ok=True)
        (results / "artifacts" / name).write_bytes(b"half")
    with held(results / "cut"):
        run("--results", str(results), "--yes")
        assert names(results) == KEPT | half
    run("--results", str(results), "--yes")
    assert names(results) == KEPT


@pytest.mark.parametrize("folder", ["missing", "."])
def test_a_folder_without_artifacts_is_refused(folder: str, tmp_path: Path) -> None:
    code, output, errors = run("--results", str(tmp_path / folder))
    assert (code, output) == (2, "")
    assert errors.startswith("raymia: --results ")
    assert NONE in errors
    assert errors.count("\n") == 1
