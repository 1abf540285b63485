"""The diffusion + mixed-sample defense by the commands a person types, tiny, on real workers."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from raymia.records import load_records
from tests.study.command import REPOSITORY, assignments, tune, write_space

TINY = (
    "plan.part_size=40",
    "plan.targets=2",
    "training.epochs=2",
    "model.options.widths=[4,8,8]",
    "attacks=[loss,entropy]",
    "diffusion.channels=[8]",
    "diffusion.attention=[]",
    "diffusion.iterations=6",
    "diffusion.batch_size=10",
    "diffusion.sampler_steps=2",
    "diffusion.shard_size=20",
    "diffusion.per_class=3",
    "diffusion.max_images=200",
)

pytestmark = pytest.mark.slow


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_of_the_defense_ends_with_its_populations_its_generator_and_its_images(tmp_path: Path) -> None:
    space = write_space(
        tmp_path / "tiny.yaml", "diffusion_mixup: {subset: [0.0, 0.25], threshold: 0.0, labels: condition}"
    )
    arguments = ["--space", str(space), "--results", str(tmp_path), "--name", "study", "--quiet"]
    first = tune([*arguments, *assignments(*TINY)], tmp_path)
    assert first.code == 0, first.errors + first.output
    assert "AUC by population" in first.output or "population" in first.output

    rows = [row for row in rows_of(tmp_path / "study/frontier.csv") if row["seed"] == "pooled"]
    of = {(row["diffusion_mixup.subset"], row["attack"], row["population"]): row for row in rows}
    assert {population for subset, attack, population in of if (subset, attack) == ("0.25", "loss")} == {
        "all",
        "direct",
        "indirect",
    }
    # With no real image, nobody is met directly.
    assert {population for subset, attack, population in of if (subset, attack) == ("0.0", "loss")} == {
        "all",
        "indirect",
    }
    assert of["0.25", "loss", "direct"]["members"] == "20"
    assert of["0.25", "loss", "indirect"]["members"] == "60"
    assert {attack for _, attack, population in of if population == "generator"} == {"denoising_loss", "nearest_copy"}
    (sheet,) = (tmp_path / "study/synthetic").glob("*/contact_sheet.png")
    assert sheet.read_bytes().startswith(b"\x89PNG")
    page = (sheet.parent / "synthetic.md").read_text()
    assert "closer to training" in page

    # The whole is there: nothing is made, no Ray is started, and the table is the same.
    before = (tmp_path / "study/frontier.csv").read_bytes()
    again = tune([*arguments, *assignments(*TINY)], tmp_path)
    assert again.code == 0
    assert "reusing 22 of 22 trained models" in again.output
    assert (tmp_path / "study/frontier.csv").read_bytes() == before
    # Clean spares every shard of a study.
    listed = tune(["--results", str(tmp_path)], tmp_path, verb="clean")
    assert "synthetic" not in listed.output


def test_synthesize_leaves_a_data_set_with_its_quality(tmp_path: Path) -> None:
    arguments = ["--results", str(tmp_path), "--out", str(tmp_path / "images"), "--quiet"]
    asked = [*arguments, "--threshold", "0", "--labels", "condition", *assignments(*TINY)]
    first = tune(asked, tmp_path, verb="synthesize")
    assert first.code == 0, first.errors + first.output
    assert "Drawn 40 images, 40 passed the filter" in first.output
    assert "50% is leak-free" in first.output
    path = tmp_path / "images/images.parquet"
    records = load_records(str(path))
    assert np.bincount(records.labels).tolist() == [3] * 10
    assert records.inputs.shape == (30, 8, 8, 1)
    assert (tmp_path / "images/contact_sheet.png").exists()
    assert json.loads((tmp_path / "images/synthesis.json").read_text())["images"]["labels"] == "condition"

    # What it stands on is a study's, to clean.
    listed = tune(["--results", str(tmp_path)], tmp_path, verb="clean")
    assert "every artifact is used by a study" in listed.output

    content = pq.read_table(path)
    path.unlink()  # as if the writing had been cut off
    again = tune(asked, tmp_path, verb="synthesize")
    assert again.code == 0
    assert "Drawn 40 images" in again.output
    assert pq.read_table(path).equals(content)

    other = tune([*asked, "--guidance", "1"], tmp_path, verb="synthesize")
    assert other.code == 2
    assert "holds images of another generator, classifier or setting" in other.errors
    assert pq.read_table(path).equals(content)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--threshold", "1.5"], "diffusion_mixup.threshold"),
        (["--guidance", "1", "--set", "diffusion.conditional=false"], "guidance: 1 needs a class-conditional denoiser"),
        (["--set", "diffusion.batch_size=400"], "diffusion.batch_size is 400, and a generator has only 150 images"),
        (["--set", "diffusion.chanels=[8]"], "unknown setting 'diffusion.chanels'"),
        (["--target", "-1"], "--target"),
        (["--out", __file__], "is a file; give a folder"),
        (["--set", "plan.part_size=10", "--set", "diffusion.batch_size=10"], "plan.part_size: 10 records are too few"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path: Path, more: list[str], message: str) -> None:
    outcome = tune(["--results", str(tmp_path / "results"), *more], tmp_path, verb="synthesize")
    assert outcome.code == 2
    assert message in outcome.errors
    assert len(outcome.errors.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()


def test_the_script_has_the_command_too() -> None:
    outcome = tune(["--help"], REPOSITORY, verb="synthesize", script=True)
    assert outcome.code == 0
    assert "--per-class" in outcome.output
