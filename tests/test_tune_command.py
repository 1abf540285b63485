"""What the command refuses, how it says so, and what it tells without training anything."""

import contextlib
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from raymia.cli import cli
from raymia.commands import guarded
from raymia.errors import RunError
from raymia.study.lock import held
from raymia.tune import tune
from raymia.yaml_files import configs_folder
from tests.support.mlflow_ui import free_port

TINY = ("plan.part_size=40", "plan.targets=2", "training.epochs=2", "model.options.widths=[4,8,8]")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own, where Ray cannot be imported: nothing here may start it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("raymia.engine.cluster.started", _no_ray)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def _no_ray(*arguments: object) -> None:
    raise AssertionError("Ray was started")


def run(*arguments: str, command: click.Command = tune) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command in this process."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = guarded(lambda: command.main(list(arguments), standalone_mode=False, prog_name="raymia tune"))
    return code, output.getvalue(), errors.getvalue()


def tiny(*more: str) -> list[str]:
    return ["--results", "results", *(part for text in TINY for part in ("--set", text)), *more]


def write_features(path: Path, labels: Sequence[int] | None, count: int = 200) -> None:
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {"features": list(rng.standard_normal((count, 4)).astype(np.float32))}
    if labels is not None:
        columns["label"] = [labels[number % len(labels)] for number in range(count)]
    parquet.write_table(pa.table(columns), path)


BAD = {
    "space": (["--space", "mixup_alpa"], "unknown space 'mixup_alpa': did you mean 'mixup_alpha'?"),
    "setting": (["--set", "training.epoch=3"], "unknown setting 'training.epoch': did you mean 'training.epochs'?"),
    "dataset": (["--dataset", "digit"], "unknown dataset 'digit': did you mean 'digits'?"),
    "model": (["--model", "cn"], "unknown model 'cn': did you mean 'cnn'?"),
    "attack": (["--set", "attacks=[los]"], "attacks: unknown attack 'los'; did you mean loss?"),
    "attack twice": (["--set", "attacks=[loss,loss]"], "attacks: loss is given twice; give each once"),
    "preset": (["--preset", "cifar"], "unknown preset 'cifar': known are cifar100_demem, cifar100_desk, "),
    "search": (["--search", "genetic"], "'--search': 'genetic' is not one of 'grid', 'random', 'optuna'"),
    "samples": (["--samples", "3"], "--samples: a grid tries all its values; add --search random"),
    "option": (["--spaec", "all"], "No such option '--spaec'. (Did you mean "),
    "argument": (["mixup_alpha"], "Got unexpected extra argument (mixup_alpha)"),
    "assignment": (["--set", "training.epochs"], "--set training.epochs: write it as section.key=value"),
    "value": (["--set", "training.epochs=[1"], "--set training.epochs=[1: the value is not readable as YAML; quote it"),
    "type": (["--set", "training.epochs=many"], "training.epochs: input should be a valid integer"),
    "range": (["--set", "training.learning_rate=-1"], "training.learning_rate: input should be greater than 0, got -1"),
    "seed": (["--seed", "-1"], "'--seed': -1 is not in the range x>=0"),
    "name outside": (["--name", "../other"], "--name '../other': cannot name a study's folder; give a plain word"),
    "name empty": (["--name", ""], "--name '': cannot name a study's folder; give a plain word"),
    "name taken": (["--name", "artifacts"], "--name 'artifacts': cannot name a study's folder"),
    "results empty": (["--results", ""], "--results: is empty; give a folder"),
    "results of no kind": (["--results", "foo://bucket"], "--results foo://bucket: Unrecognized filesystem type"),
    "results relative": (["--results", "file://bucket"], "--results file://bucket: File URI cannot be relative"),
    "space and train": (
        ["--train", "a:b", "--space", "all"],
        "--train measures your own training: it takes no --space",
    ),
    "train": (["--train", "no_such_module:train"], "train 'no_such_module:train': cannot import no_such_module"),
    "train's function": (["--train", "json:trane"], "train 'json:trane': module json has no trane: name a function in"),
    "train's form": (["--train", "json.dumps"], "train 'json.dumps' is not a function's name: write it as package.mod"),
    "train's source": (["--train", "math:sqrt"], "train 'math:sqrt': no source file of math is found"),
    "negative alpha": (["--space", "negative.yaml"], "mixup.alpha: input should be greater than 0, got -0.1"),
    "hyperparameter": (["--space", "misspelt.yaml"], "unknown hyperparameter mixup.alhpa: did you mean 'alpha'?"),
    "no labels": (["--dataset", "unlabeled.parquet"], "dataset unlabeled.parquet: it has no column 'label'"),
    "one class": (["--dataset", "one_class.parquet"], "all 200 records are of one class ('3')"),
    "missing file": (["--dataset", "missing.parquet"], "there is no such file or folder; correct the path"),
    "too few records": (
        ["--dataset", "good.parquet", "--set", "plan.part_size=60"],
        "plan.part_size: 4 parts of 60 records and 0 canaries need 240 records, the data set has 200: "
        "set plan.part_size to 50 or less",
    ),
    "tracking folder": (["--tracking-uri", "file:///tmp/mlruns"], "is not supported: use sqlite:///PATH.db"),
    "tracking host": (["--tracking-uri", "http://"], "names no host: use http://HOST:PORT"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_the_remedy_and_writes_nothing(case: str, folder: Path) -> None:
    (folder / "negative.yaml").write_text("settings: [{mixup: {alpha: [-0.1]}}]")
    (folder / "misspelt.yaml").write_text("settings: [{mixup: {alhpa: [0.1]}}]")
    write_features(folder / "good.parquet", [0, 1])
    write_features(folder / "unlabeled.parquet", None)
    write_features(folder / "one_class.parquet", [3])
    before = sorted(folder.rglob("*"))
    arguments, expected = BAD[case]
    code, output, errors = run("--results", "results", *arguments)
    assert (code, output) == (2, "")
    assert errors.startswith("raymia: ")
    assert expected in errors
    assert errors.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_a_tracking_server_that_does_not_answer_is_refused(folder: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    code, _, errors = run(*tiny("--tracking-uri", uri))
    assert code == 2
    assert errors.startswith(f"raymia: --tracking-uri: {uri} does not answer as an MLflow server: start one")
    assert errors.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_a_studys_own_folder_is_refused_as_results(folder: Path) -> None:
    study = folder / "results" / "mixup"
    study.mkdir(parents=True)
    (study / "study.json").write_text("{}")
    code, _, errors = run(*tiny("--results", "results/mixup"))
    assert code == 2
    assert "is itself a study's folder; give the folder above it, " in errors
    assert errors.count("\n") == 1
    assert [path.name for path in study.iterdir()] == ["study.json"]


def test_a_damaged_record_is_refused(folder: Path) -> None:
    study = folder / "results" / "mine"
    study.mkdir(parents=True)
    (study / "study.json").write_text("{")
    code, _, errors = run(*tiny("--name", "mine"))
    assert code == 2
    assert "study.json is damaged; remove the folder" in errors
    assert (study / "study.json").read_text() == "{"


def test_another_studys_folder_is_refused_with_the_setting_that_differs(folder: Path) -> None:
    study = folder / "results" / "mine"
    study.mkdir(parents=True)
    record = json.dumps({"key": "other", "space": "mixup_alpha", "config": {"training": {"epochs": 3}}})
    (study / "study.json").write_text(record)
    config = ["--set", "attacks=[loss]"]
    code, _, errors = run(*tiny("--name", "mine", *config))
    assert code == 2
    assert errors.startswith("raymia: --name mine: ")
    assert "holds another study (" in errors
    assert "; give another --name, or none" in errors
    assert (study / "study.json").read_text() == record


def test_results_that_cannot_be_written_are_refused(folder: Path) -> None:
    (folder / "results").write_text("a file")
    code, _, errors = run(*tiny())
    assert code == 2
    assert "cannot be written; " in errors
    assert errors.count("\n") == 1
    assert (folder / "results").read_text() == "a file"


def test_a_full_disk_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 1 << 40, 100 << 20))
    code, _, errors = run(*tiny())
    assert code == 2
    assert errors.startswith("raymia: --results ")
    assert "only 100 MiB are free on that disk; free some space" in errors
    assert errors.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_a_study_that_is_being_worked_on_is_refused_before_ray_starts(folder: Path) -> None:
    with held(folder / "results" / "mine"):
        code, _, errors = run(*tiny("--name", "mine"))
    assert code == 2
    assert errors.startswith("raymia: ")
    assert "another raymia is working on this study; wait for it to end" in errors
    assert errors.count("\n") == 1


def test_a_dry_run_counts_the_models_and_writes_nothing(folder: Path) -> None:
    code, output, errors = run(*tiny("--dry-run"))
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert lines[0] == "mixup_alpha on scikit-learn digits: 6 settings"
    assert lines[1] == "24 models: 24 to train, 0 reused"
    assert " a model (timed on a few batches just now), " in lines[2]
    assert lines[3].endswith(" MB of disk")
    assert len(lines) == 4
    assert list(folder.iterdir()) == []


def test_a_dry_run_prices_generators_and_their_images(folder: Path) -> None:
    (folder / "own.yaml").write_text("settings: [{diffusion_mixup: {subset: [0.1, 0.2], threshold: [0.5, 0.8]}}]")
    small = ("--set", "diffusion.batch_size=40", "--set", "diffusion.channels=[8]", "--set", "diffusion.attention=[]")
    code, output, errors = run(*tiny("--dry-run", "--space", "own.yaml", *small))
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    # Two targets with a shadow each: a generator each, whatever follows it; and a classifier each.
    assert " and 4 generators: " in lines[1]
    assert " a generator, " in lines[2]
    assert " to draw images, were half of them kept" in lines[2]
    assert list(folder.iterdir()) == [folder / "own.yaml"]


def test_one_training_serves_every_stop_and_the_undefended_model(folder: Path) -> None:
    code, output, _ = run(*tiny("--dry-run", "--space", "early_stopping"))
    assert code == 0
    assert "4 models: 4 to train, 0 reused" in output


def test_the_built_in_spaces_are_listed_with_a_line_each() -> None:
    code, output, errors = run("--list-spaces")
    assert (code, errors) == (0, "")
    names = [line.split()[0] for line in output.splitlines()]
    assert names == sorted(path.stem for path in configs_folder().glob("*.yaml"))
    assert {"mixup_alpha", "label_smoothing", "early_stopping", "relaxloss_alpha", "dropout", "all"} <= set(names)
    assert all(len(line.split()) > 3 for line in output.splitlines())


def test_the_script_has_the_same_verbs() -> None:
    assert run("tune", "--list-spaces", command=cli) == run("--list-spaces")
    code, _, errors = run("tume", command=cli)
    assert code == 2
    assert "No such command 'tume'" in errors
    assert errors.count("\n") == 1


def test_the_bare_script_shows_its_help_as_it_is() -> None:
    code, output, errors = run(command=cli)
    assert (code, output) == (2, "")
    _, asked, _ = run("--help", command=cli)
    assert errors == asked
    assert "\n  tune " in errors


def _raise(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RunError("it\nbroke"), 1, "raymia: it broke"),
        (KeyboardInterrupt(), 130, "raymia: interrupted; what was finished is kept, and the same command goes on"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            1,
            "raymia: /data/x: No space left on device; free",
        ),
    ],
)
def test_every_end_has_its_code_and_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: _raise(error)) == code
    errors = capsys.readouterr().err
    assert errors.startswith(line)
    assert errors.count("\n") == 1


def test_an_unforeseen_error_is_not_hidden() -> None:
    with pytest.raises(FileNotFoundError):
        guarded(lambda: _raise(FileNotFoundError(errno.ENOENT, "gone", "x")))


def test_the_working_folder_can_be_imported_from_whatever_starts_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in ("", str(folder))])
    (folder / "a_users_recipe.py").write_text("def train(images, labels, seed): ...\n")
    code, output, errors = run(*tiny("--train", "a_users_recipe:train", "--dry-run"))
    assert (code, errors) == (0, "")
    assert "custom on scikit-learn digits: 2 settings" in output


@pytest.mark.parametrize("program", ["module", "script", "package"])
def test_as_a_process_bad_input_exits_with_2_on_stderr(program: str, folder: Path) -> None:
    script = Path(sys.executable).parent / "raymia"
    command = {
        "module": [sys.executable, "-m", "raymia.tune"],
        "script": [str(script), "tune"],
        "package": [sys.executable, "-m", "raymia", "tune"],
    }[program]
    repository = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [*command, "--space", "mixup_alpa"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("raymia: unknown space 'mixup_alpa': did you mean 'mixup_alpha'?")
    assert done.stderr.count("\n") == 1
    assert list(folder.iterdir()) == []
