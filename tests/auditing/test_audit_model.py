"""The command asks a model itself."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.auditing.given import run, verdict

THEIRS = """
import torch
from torch import nn

def build(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0] * input_shape[1] * input_shape[2], classes))

class Normed(nn.Module):
    def __init__(self, input_shape, classes):
        super().__init__()
        self.norm, self.last = nn.BatchNorm2d(input_shape[0]), build(input_shape, classes)
    def forward(self, images):
        return self.last(self.norm(images))

class Softmaxed(nn.Module):
    def __init__(self, input_shape, classes):
        super().__init__()
        self.last = build(input_shape, classes)
    def forward(self, images):
        return self.last(images).softmax(dim=1)

class Picky(nn.Module):
    def __init__(self, input_shape, classes):
        super().__init__()
        self.last = build(input_shape, classes)
    def forward(self, images):
        if images.sum() > 0:
            raise RuntimeError("I only like\\nblack")
        return self.last(images)
"""
CLASSES = 3


@pytest.fixture(autouse=True)
def module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "audited_nets.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(str(folder))


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def images(seed: int, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4)).astype(np.uint8)


def write_records(name: str, pixels: NDArray[np.uint8], labels: Any = None, **more: Any) -> None:
    labels = np.arange(len(pixels)) % CLASSES if labels is None else labels
    metadata = more.pop("metadata", None)
    table = pa.table({"image": [png(one) for one in pixels], "label": labels, **more})
    pq.write_table(table if metadata is None else table.replace_schema_metadata(metadata), name)


def weights(seed: int = 0, classes: int = CLASSES) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {
        "1.weight": torch.from_numpy(rng.normal(size=(classes, 16)).astype(np.float32)),
        "1.bias": torch.from_numpy(rng.normal(size=classes).astype(np.float32)),
    }


def logits_of(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    flat = pixels.reshape(len(pixels), -1) / 255
    found: NDArray[np.float64] = flat @ weights()["1.weight"].numpy().astype(np.float64).T + weights()["1.bias"].numpy()
    return found


MODEL = ("--model", "audited_nets:build", "--checkpoint", "w.pt", "--members", "a.parquet", "--nonmembers", "b.parquet")


@pytest.fixture
def files() -> None:
    torch.save(weights(), "w.pt")
    write_records("a.parquet", images(1, 30), id=np.arange(100, 130))
    write_records("b.parquet", images(2, 20), id=np.arange(20))
    write_records("c.parquet", images(3, 40))


@pytest.mark.usefixtures("files")
def test_the_models_answers_are_scored() -> None:
    code, output, errors = run(*MODEL, "--attacks", "loss,gradient_norm", "--scores", "scores.parquet")
    assert (code, errors) == (0, "")
    table = pq.read_table("scores.parquet")
    assert table["id"].to_pylist() == [*range(100, 130), *range(20)]
    assert table["member"].to_pylist() == [True] * 30 + [False] * 20
    pixels = np.concatenate([images(1, 30), images(2, 20)])
    labels = np.concatenate([np.arange(30) % CLASSES, np.arange(20) % CLASSES])
    z = logits_of(pixels)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    own = p[np.arange(50), labels]
    assert table["loss"].to_numpy() == pytest.approx(np.log(own), rel=1e-4)
    error = p - np.eye(CLASSES)[labels]
    inputs = (pixels.reshape(50, -1) / 255) ** 2
    norm = np.linalg.norm(error, axis=1) * np.sqrt(inputs.sum(axis=1) + 1)
    assert table["gradient_norm"].to_numpy() == pytest.approx(-norm, rel=1e-4)
    assert "Largest AUC" in output
    assert verdict()["digests"].keys() == {"w.pt", "records", "model"}


@pytest.mark.usefixtures("files")
def test_queries_and_a_population() -> None:
    code, _, _ = run(*MODEL, "--population", "c.parquet", "--queries", "identity,flip,shifts")
    assert code == 0
    found = verdict()
    assert found["given"]["target_logits"] == "float32[50, 6, 3]"
    assert found["given"]["population_logits"] == "float32[40, 6, 3]"
    assert {"quantile_regression", "gradient_norm", "attack_p", "loss"} <= found["attacks"].keys()
    assert found["attacks"]["attack_p"]["notes"] == []
    assert "label_only_augmentation" in found["not_run"]
    assert found["not_run"]["lira_online"].endswith("with --signals, since --model asks the target alone")


@pytest.mark.usefixtures("files")
def test_what_would_be_needed_is_named() -> None:
    assert run(*MODEL)[0] == 0
    found = verdict()["not_run"]
    assert found["quantile_regression"].endswith("give --population, whose records it learns with")
    assert "give --queries identity,flip,shifts" in found["label_only_augmentation"]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("form", ["state_dict", "whole classifier"])
def test_other_forms_of_weights(form: str) -> None:
    assert run(*MODEL, "--attacks", "loss")[0] == 0
    expected = verdict()["attacks"]
    if form == "state_dict":
        torch.save({"state_dict": weights(), "epoch": 3}, "w.pt")
    else:
        inner = {f"net.{name}": value for name, value in weights().items()}
        torch.save({"mean": torch.zeros(1, 1, 1), "std": torch.ones(1, 1, 1), **inner}, "w.pt")
    assert run(*MODEL, "--attacks", "loss")[0] == 0
    assert verdict()["attacks"] == expected


@pytest.mark.usefixtures("files")
def test_batch_norm_answers_in_eval_mode_record_by_record() -> None:
    inner = {f"last.{name}": value for name, value in weights().items()}
    norm = {"norm.weight": torch.ones(1), "norm.bias": torch.zeros(1), "norm.num_batches_tracked": torch.tensor(1)}
    statistics = {"norm.running_mean": torch.zeros(1), "norm.running_var": torch.ones(1) * (1 - 1e-5)}
    torch.save({**norm, **statistics, **inner}, "n.pt")
    assert run(*MODEL, "--attacks", "loss,gradient_norm", "--scores", "plain.parquet")[0] == 0
    normed = [text.replace("build", "Normed").replace("w.pt", "n.pt") for text in MODEL]
    assert run(*normed, "--attacks", "loss,gradient_norm", "--scores", "normed.parquet")[0] == 0
    plain, found = pq.read_table("plain.parquet"), pq.read_table("normed.parquet")
    assert found["loss"].to_numpy() == pytest.approx(plain["loss"].to_numpy(), rel=1e-4)


@pytest.mark.usefixtures("files")
def test_a_nonmember_that_equals_a_member_is_left_out() -> None:
    shared = np.concatenate([images(2, 20), images(1, 30)[:4]])
    write_records("b.parquet", shared, id=np.arange(24))
    code, output, _ = run(*MODEL, "--attacks", "loss")
    assert code == 0
    assert (verdict()["members"], verdict()["nonmembers"]) == (30, 20)
    assert "Note: --nonmembers: 4 exact copies of other records were left out." in output


@pytest.mark.usefixtures("files")
def test_ids_that_stand_in_both_files_give_way_to_numbers() -> None:
    write_records("b.parquet", images(2, 20), id=np.arange(110, 130))
    assert run(*MODEL, "--attacks", "loss", "--scores", "scores.parquet")[0] == 0
    assert pq.read_table("scores.parquet")["id"].to_pylist() == list(range(50))


@pytest.mark.parametrize("how", ["integers", "text", "named"])
def test_labels_mean_the_same_in_every_file(how: str) -> None:
    torch.save(weights(), "w.pt")
    numbers = [np.arange(30) % CLASSES, np.arange(20) % 2 * 2]  # no record of class 1 among the non-members
    names = np.array(["ape", "bee", "cat"])
    for name, pixels, labels in zip("ab", (images(1, 30), images(2, 20)), numbers, strict=True):
        more = {"metadata": {"class_names": '["ape", "bee", "cat"]'}} if how == "named" else {}
        write_records(f"{name}.parquet", pixels, labels if how == "integers" else names[labels], **more)
    assert run(*MODEL, "--attacks", "loss", "--scores", "scores.parquet")[0] == 0
    z = logits_of(np.concatenate([images(1, 30), images(2, 20)]))
    own = (z - np.log(np.exp(z).sum(axis=1, keepdims=True)))[np.arange(50), np.concatenate(numbers)]
    assert pq.read_table("scores.parquet")["loss"].to_numpy() == pytest.approx(own, rel=1e-4)


def test_a_class_that_no_record_has_is_named_by_its_number() -> None:
    torch.save(weights(classes=5), "w.pt")
    write_records("a.parquet", images(1, 30), np.arange(30) % 3)
    write_records("b.parquet", images(2, 20), np.arange(20) % 3)
    code, _, errors = run(*MODEL, "--attacks", "loss")
    assert code == 2
    assert "does not fit the model built for inputs [1, 4, 4] and 3 classes; correct the file, the data or" in errors
    assert run(*MODEL, "--attacks", "loss", "--classes", "5")[0] == 0
    assert verdict()["given"]["target_logits"] == "float32[50, 1, 5]"


@pytest.mark.usefixtures("files")
def test_a_model_that_answers_probabilities() -> None:
    inner = {f"last.{name}": value for name, value in weights().items()}
    torch.save(inner, "s.pt")
    assert run(*MODEL, "--attacks", "loss")[0] == 0
    expected = verdict()["attacks"]["loss"]["auc"]
    softmaxed = [text.replace("build", "Softmaxed").replace("w.pt", "s.pt") for text in MODEL]
    code, _, errors = run(*softmaxed, "--attacks", "loss")
    assert (code, errors.count("\n")) == (2, 1)
    assert "target_logits: holds probabilities, not logits" in errors
    assert run(*softmaxed, "--probabilities")[0] == 0
    assert verdict()["attacks"]["loss"]["auc"] == pytest.approx(expected)
    assert "gradient_norm" in verdict()["not_run"]  # the loss of probabilities taken for logits is no loss


BAD = {
    "model": (["--model", "audited_nets:nothing"], "model 'audited_nets:nothing': module audited_nets has no nothing"),
    "form": (["--model", "nets"], "unknown model 'nets'"),
    "fails": (
        ["--model", "audited_nets:Picky", "--checkpoint", "s.pt"],
        "--model: it fails on the records: RuntimeError",
    ),
    "no checkpoint": (["--checkpoint", "none.pt"], "--checkpoint none.pt: there is no such file"),
    "other checkpoint": (["--checkpoint", "other.pt"], "--checkpoint other.pt: does not fit the model built for"),
    "pickle": (["--checkpoint", "module.pt"], "--checkpoint module.pt: cannot be read as weights alone"),
    "no weights": (
        ["--checkpoint", "list.pt"],
        "--checkpoint list.pt: holds no weights by name; save model.state_dict",
    ),
    "members": (["--members", "none.parquet"], "--members: dataset none.parquet: there is no such file or folder"),
    "shapes": (
        ["--nonmembers", "large.parquet"],
        "--nonmembers: its records are uint8[5, 5, 1], those of --members uint8",
    ),
    "same": (["--nonmembers", "a.parquet"], "--nonmembers: every record stands in an earlier file; give others"),
    "classes": (["--classes", "2"], "--classes 2: the labels go up to 2; give 3 or more"),
    "queries": (["--queries", "identity,flp"], "--queries: unknown query 'flp': did you mean 'flip'?"),
    "queries without itself": (["--queries", "flip"], "queries: ['flip']; begin with identity"),
    "named and unnamed": (["--nonmembers", "named.parquet"], "--nonmembers: other class_names than --members; write"),
    "equalize": (["--equalize-references"], "--equalize-references: goes with --signals"),
}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case: str, folder: Path) -> None:
    torch.save({f"last.{name}": value for name, value in weights().items()}, "s.pt")
    torch.save({"2.weight": torch.zeros(3, 16)}, "other.pt")
    torch.save(torch.nn.Linear(2, 2), "module.pt")
    torch.save([1, 2], "list.pt")
    write_records("large.parquet", np.zeros((4, 5, 5), np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None])
    write_records("named.parquet", images(5, 9), metadata={"class_names": '["x", "y", "z"]'})
    before = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    arguments, expected = BAD[case]
    code, output, errors = run(*MODEL, *arguments)
    assert (code, output) == (2, "")
    assert expected in errors
    assert errors.count("\n") == 1
    assert {path for path in folder.rglob("*") if "__pycache__" not in path.parts} == before
