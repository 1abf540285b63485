"""Whole studies on the user's own records, with composed defenses, shared trainings and learning searches."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from raymia.metrics.table import read_csv
from tests.study.command import (
    REPOSITORY,
    TINY,
    artifacts,
    assignments,
    record_of,
    study_folder,
    tune,
    write_space,
)

pytestmark = pytest.mark.slow

SMALL = ("plan.part_size=30", "plan.targets=1", "training.epochs=3", "attacks=[loss]", "training.precision=fp32")


def settings_of(results: Path) -> list[str]:
    """The settings of the table in their order."""
    return list(dict.fromkeys(str(row["setting"]) for row in read_csv(study_folder(results) / "frontier.csv")))


def without_ray(folder: Path) -> dict[str, str]:
    (folder / "without_ray").mkdir()
    (folder / "without_ray" / "sitecustomize.py").write_text("import sys\nsys.modules['ray'] = None\n")
    return {"PYTHONPATH": f"{folder / 'without_ray'}:{REPOSITORY}"}


def test_features_from_parquet_under_composed_defenses(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 160)
    features = (rng.standard_normal((160, 5)) + labels[:, None]).astype(np.float32)
    features[10], labels[10] = features[4], labels[4]
    parquet.write_table(pa.table({"features": list(features), "label": labels}), tmp_path / "mine.parquet")
    space = "{mixup: {alpha: [0.5]}, label_smoothing: {epsilon: [0.2]}, early_stopping: {fraction: [0.34, 1.0]}}"
    write_space(tmp_path / "composed.yaml", space)
    given = ["--space", "composed.yaml", "--dataset", "mine.parquet", "--results", "results", *assignments(*SMALL)]
    outcome = tune(given, tmp_path)
    assert (outcome.code, outcome.errors) == (0, "")
    assert "mine.parquet: 159 records, 3 classes, 1 exact duplicates dropped" in outcome.output
    both = "mixup alpha=0.5 + label_smoothing epsilon=0.2 + early_stopping fraction="
    assert settings_of(tmp_path / "results") == ["none", f"{both}0.34", f"{both}1"]
    # Both stops come from one training, kept twice: undefended and defended, target and shadow.
    assert len({name.split("/")[1] for name in artifacts(tmp_path / "results", "models")}) == 4
    assert record_of(tmp_path / "results")["config"]["model"]["name"] == "mlp"
    assert record_of(tmp_path / "results")["data"]["duplicates_dropped"] == 1
    # What is known of the file is kept: the second time it is not decoded, and Ray not started.
    again = tune(given, tmp_path, environment=without_ray(tmp_path))
    assert (again.code, again.errors) == (0, "")
    assert again.output.startswith("reusing 4 of 4 trained models")


def test_a_folder_of_images_searched_at_random(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(70):
            pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{number}.png")
    write_space(
        tmp_path / "random.yaml",
        "dropout: {rate: {low: 0.1, high: 0.5}}",
        more="search: {method: random, samples: 2}\n",
    )
    more = ("model.name=cnn", "model.options.widths=[4,8,8]")
    given = ["--space", "random.yaml", "--dataset", "pictures", "--results", "results", *assignments(*SMALL, *more)]
    outcome = tune(given, tmp_path)
    assert (outcome.code, outcome.errors) == (0, "")
    assert "140 records, 2 classes" in outcome.output
    none, *drawn = settings_of(tmp_path / "results")
    assert none == "none"
    assert len(set(drawn)) == 2
    assert all(0.1 <= float(label.partition("rate=")[2]) <= 0.5 for label in drawn)
    assert record_of(tmp_path / "results")["data"]["classes"] == ["cat", "dog"]


def test_an_optuna_search_repeats_and_is_recognized_as_complete(tmp_path: Path) -> None:
    write_space(
        tmp_path / "learning.yaml",
        "mixup: {alpha: [0.2, 0.5]}",
        "dropout: {rate: {low: 0.1, high: 0.5}}",
        more="search: {method: optuna, samples: 4, batch: 2}\n",
    )
    given = ["--space", "learning.yaml", "--results", "results", *assignments(*TINY, "plan.targets=1")]
    one = tune(given, tmp_path)
    assert (one.code, one.errors) == (0, "")
    table = (study_folder(tmp_path / "results") / "frontier.csv").read_bytes()
    assert len(settings_of(tmp_path / "results")) in (3, 4, 5), "four samples, of which some may repeat"
    two = tune(["others" if part == "results" else part for part in given], tmp_path)
    assert (two.code, two.errors) == (0, "")
    assert (study_folder(tmp_path / "others") / "frontier.csv").read_bytes() == table
    again = tune(given, tmp_path, environment=without_ray(tmp_path))
    assert (again.code, again.errors) == (0, "")
    assert again.output.startswith("reusing ")
    assert (study_folder(tmp_path / "results") / "frontier.csv").read_bytes() == table


def test_every_stop_and_the_undefended_model_come_from_one_training(tmp_path: Path) -> None:
    write_space(tmp_path / "stops.yaml", "early_stopping: {fraction: [0.34, 0.67]}")
    given = [
        "--space",
        "stops.yaml",
        "--results",
        "results",
        *assignments(*TINY, "training.epochs=3", "plan.targets=1"),
    ]
    outcome = tune(given, tmp_path)
    assert (outcome.code, outcome.errors) == (0, "")
    kept = artifacts(tmp_path / "results", "models")
    assert len({name.split("/")[1] for name in kept}) == 2, "a target and a shadow"
    assert sorted({name.split("/")[2] for name in kept}) == ["epoch-0001", "epoch-0002", "epoch-0003"]
    assert len(settings_of(tmp_path / "results")) == 3
