"""What the audit refuses: one line with the remedy, exit code 2, nothing written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.auditing.given import Arrays, run, target_only, whole, write


def changed(**changes: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Arrays], None]:
    """Arrays replaced by what a function makes of them."""

    def change(arrays: Arrays) -> None:
        for name, function in changes.items():
            arrays[name] = function(arrays[name])

    return change


def dropped(*names: str) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        for name in names:
            del arrays[name]

    return change


def added(**more: NDArray[Any]) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update(more)


def put(place: Any, value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """A copy with a value somewhere."""

    def change(array: NDArray[Any]) -> NDArray[Any]:
        copy = array.copy()
        copy[place] = value
        return copy

    return change


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    weights = np.exp(logits)
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float16)


def everyone(array: NDArray[Any]) -> NDArray[Any]:
    return np.ones_like(array)


def nobody(array: NDArray[Any]) -> NDArray[Any]:
    return np.zeros_like(array)


N = 60
BAD: dict[str, tuple[Callable[[Arrays], None], str]] = {
    "no target": (dropped("target_logits"), "target_logits: is missing; an audit needs target_logits, labels, member"),
    "no labels": (dropped("labels"), "labels: is missing"),
    "unknown": (
        added(reference_logit=np.zeros(3)),
        "unknown array 'reference_logit': did you mean 'reference_logits'",
    ),
    "no reference membership": (
        dropped("reference_member"),
        "reference_logits is given without reference_member: give that too (all False where no reference trained on "
        "the records), or leave reference_logits out",
    ),
    "no references": (
        dropped("reference_logits", "reference_member"),
        "population_reference_logits is given without reference_logits: give that too",
    ),
    "half a shadow": (dropped("shadow_member"), "shadow_logits is given without shadow_member"),
    "half a population": (dropped("population_labels"), "population_logits is given without population_labels"),
    "one axis": (changed(target_logits=np.ravel), f"target_logits: the shape is [{N * 10}]; give [N, C], or [N, Q, C]"),
    "one class": (changed(target_logits=lambda a: a[:, :, :1]), "of 2 or more classes"),
    "empty": (changed(target_logits=lambda a: a[:0]), "target_logits: the shape is [0, 2, 5]; give [N, C]"),
    "fewer labels": (changed(labels=lambda a: a[1:]), f"labels: the shape is [{N - 1}], and the logits ask for [{N}]"),
    "fewer members": (changed(member=lambda a: a[1:]), f"member: the shape is [{N - 1}], and the logits ask for [{N}]"),
    "fewer referenced": (
        changed(reference_logits=lambda a: a[:, 1:]),
        f"reference_logits: the shape is [16, {N - 1}, 2, 5], and target_logits [{N}, 2, 5] asks for [16, {N}, 2, 5]",
    ),
    "fewer queries": (
        changed(reference_logits=lambda a: a[:, :, 0]),
        f"reference_logits: the shape is [16, {N}, 5], and target_logits [{N}, 2, 5] asks for",
    ),
    "fewer classes": (changed(shadow_logits=lambda a: a[:, :, 1:]), "shadow_logits: the shape is [60, 2, 4], and"),
    "fewer references": (
        changed(reference_member=lambda a: a[1:]),
        f"reference_member: the shape is [15, {N}], and the logits ask for [16, {N}]",
    ),
    "other references": (
        changed(population_reference_logits=lambda a: a[1:]),
        "population_reference_logits: 15 models, and reference_logits has 16: give the same models' answers",
    ),
    "a number": (
        changed(shadow_logits=lambda a: np.array(1, np.float32)),
        "shadow_logits: the shape is [], and",
    ),
    "NaN": (changed(target_logits=put((7, 1, 2), np.nan)), "target_logits: record 7 holds NaN or an infinite logit"),
    "NaN in a reference": (
        changed(reference_logits=put((3, 7, 1, 2), np.nan)),
        "reference_logits of model 3: record 7 holds NaN or an infinite logit: repair its answers, or leave the record",
    ),
    "infinite": (changed(population_logits=put((7, 1, 2), np.inf)), "population_logits: record 7 holds NaN or an inf"),
    "beyond float32": (
        changed(shadow_logits=lambda a: put((5, 0, 0), 1e39)(a.astype(np.float64))),
        "shadow_logits: record 5 holds NaN or an infinite logit",
    ),
    "all impossible": (changed(target_logits=put((4, 1), -np.inf)), "target_logits: record 4 holds NaN or an infinite"),
    "probabilities": (
        changed(target_logits=softmax),
        "target_logits: holds probabilities, not logits (none is negative, every record's sum is 1): hand in logits, "
        "or add --probabilities",
    ),
    "probabilities of references": (changed(reference_logits=softmax), "reference_logits: holds probabilities, not"),
    "integers": (changed(target_logits=lambda a: a.astype(int)), "target_logits: holds int64; give floating-point"),
    "labels of floats": (changed(labels=lambda a: a.astype(float)), "labels: holds float64; give integers"),
    "label too large": (
        changed(labels=put(7, 5)),
        "labels: 5 of record 7 is out of range: 5 classes have the labels 0",
    ),
    "label below 0": (changed(shadow_labels=put(7, -1)), "shadow_labels: -1 of record 7 is out of range"),
    "membership of floats": (changed(member=lambda a: a.astype(float)), "member: holds float64; give booleans, True"),
    "membership of counts": (changed(member=lambda a: a + 1), "member: holds int64; give booleans"),
    "all members": (changed(member=everyone), "member: 60 members and 0 non-members; an audit needs both, at least 1"),
    "no members": (changed(member=nobody), "member: 0 members and 60 non-members; an audit needs both"),
    "one shadow member": (
        changed(shadow_member=lambda a: put(0, True)(nobody(a))),
        "shadow_member: 1 members and 59 non-members; learning from a shadow model needs both, at least 2 each",
    ),
    "no OUT reference": (
        changed(reference_member=lambda a: put((slice(None), 9), True)(a)),
        "reference_member: 1 records, the first is record 9, are IN every reference model: add models that did not",
    ),
    "ids twice": (added(id=np.zeros(N, dtype=int)), "id: 0 stands more than once; give every record one of its own"),
    "ids of floats": (added(id=np.arange(N) / 2), "id: holds float64; give integers or strings"),
    "a pickle": (added(id=np.array([{}] * N, dtype=object)), "id holds Python objects, which could run code"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(case: str, folder: Path) -> None:
    change, expected = BAD[case]
    arrays = whole(records=N)
    change(arrays)
    refused(["--signals", write(arrays)], expected, folder)


def refused(arguments: list[str], expected: str, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    code, output, errors = run(*arguments)
    assert (code, output) == (2, "")
    assert errors.startswith("raymia: ")
    assert expected in errors
    assert errors.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


OPTIONS = {
    "no source": ([], "give --signals FILE with a model's answers, or --model with its data; one of the two"),
    "two sources": (["--signals", "good.npz", "--model", "a:b"], "one of the two"),
    "missing file": (["--signals", "none.npz"], "--signals none.npz: there is no such file; correct the path"),
    "other file": (["--signals", "text.npz"], "--signals text.npz: is neither npz nor Parquet"),
    "attack": (["--signals", "good.npz", "--attacks", "los"], "unknown attack 'los'; did you mean loss?"),
    "attack twice": (["--signals", "good.npz", "--attacks", "loss, loss"], "--attacks: loss is given twice"),
    "attack without inputs": (
        ["--signals", "good.npz", "--attacks", "loss,lira_online"],
        "--attacks: lira_online needs reference models, at least 4 IN for every record: give reference_logits and",
    ),
    "condition": (["--signals", "good.npz", "--fail-if", "aucc > 1"], "--fail-if 'aucc > 1': unknown metric 'aucc'"),
    "model's option": (["--signals", "good.npz", "--queries", "flip"], "--queries: goes with --model; the answers of"),
    "model alone": (["--model", "a:b"], "--model: needs --checkpoint too"),
    "equalize nothing": (["--signals", "good.npz", "--equalize-references"], "there are no references; hand in"),
    "no probabilities": (
        ["--signals", "good.npz", "--probabilities"],
        "target_logits: record 0 has no probabilities (not negative, with the sum 1): hand in probabilities everywhere",
    ),
    "figure": (["--signals", "good.npz", "--figure", "a.gif"], "--figure a.gif: give a name that ends in .png or .svg"),
    "over the input": (["--signals", "good.npz", "--out", "good.npz"], "--out good.npz: is another file of this audit"),
    "over each other": (["--signals", "good.npz", "--scores", "audit.json"], "--scores audit.json: is another file of"),
    "into a file": (["--signals", "good.npz", "--out", "text.npz/a.json"], "--out text.npz/a.json: cannot be written"),
    "onto a folder": (["--signals", "good.npz", "--out", "."], "--out '.': cannot be written; give a file"),
    "onto another folder": (
        ["--signals", "good.npz", "--scores", "folder"],
        "--scores folder: cannot be written",
    ),
    "seed": (["--signals", "good.npz", "--seed", "-1"], "-1 is not in the range x>=0"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_options(case: str, folder: Path) -> None:
    write(target_only(whole(records=N)), Path("good.npz"))
    Path("text.npz").write_text("text")
    Path("folder").mkdir()
    refused(OPTIONS[case][0], OPTIONS[case][1], folder)


def test_a_posterior_of_zero_is_a_logit_of_minus_infinity() -> None:
    arrays = target_only(whole(records=N))
    arrays["target_logits"][3, 0, 1] = -np.inf
    assert run("--signals", write(arrays), "--attacks", "loss,entropy")[0] == 0


def test_membership_may_be_zeros_and_ones() -> None:
    arrays = target_only(whole(records=N))
    arrays["member"] = arrays["member"].astype(np.int8)
    assert run("--signals", write(arrays), "--attacks", "loss")[0] == 0


def test_a_failure_while_writing_leaves_no_half_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(target_only(whole(records=N)))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    code, _, errors = run("--signals", path, "--attacks", "loss")
    assert code == 1
    assert "No space left on device; free some space" in errors
    assert [one.name for one in folder.iterdir()] == [path]
