"""The kit: its files are what they claim, raymia conforms, and known mistakes are caught and named."""

import contextlib
import csv
import io
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import log_softmax, softmax

from raymia.attacks import ATTACKS
from raymia.audit import audit
from raymia.commands import guarded
from raymia.conformance.__main__ import conformance
from raymia.conformance.check import Comparison, Verdict, base_name, compare_scores, rank_correlation
from raymia.conformance.expected import LEARNED, Mistake, expected_scores
from raymia.conformance.golden import ANSWERS, EXPECTED, MODEL, Scores, data_file, read_arrays, read_expected
from raymia.conformance.own import own_scores
from raymia.conformance.plain import best_threshold, each, modified_entropy, phi
from raymia.conformance.session import SURE
from tests.conformance.make_golden import SURE as SURE_RECORDS
from tests.conformance.make_golden import TWINS, WRONG


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = guarded(lambda: conformance.main(list(arguments), standalone_mode=False))
    return code, output.getvalue(), errors.getvalue()


@cache
def own() -> dict[str, Scores]:
    return own_scores()


@cache
def mistaken() -> dict[str, dict[str, Scores]]:
    return {str(one): expected_scores(read_arrays(ANSWERS), read_arrays(MODEL), one) for one in Mistake}


def compared(attack: str, scores: Scores) -> Comparison:
    sure_N = np.abs(each(read_arrays(ANSWERS), "target", phi)) > SURE
    return compare_scores(attack, scores, read_expected(), mistaken(), sure_N)


def test_the_kept_scores_are_those_of_the_definitions() -> None:
    expected, found = read_expected(), expected_scores(read_arrays(ANSWERS), read_arrays(MODEL))
    assert found.keys() == expected.keys()
    for name, scores in found.items():
        assert scores == pytest.approx(expected[name], rel=1e-9, abs=1e-12), name


def test_every_attack_has_scores_or_learns() -> None:
    assert {base_name(name) for name in read_expected()} | LEARNED == set(ATTACKS)
    assert not {base_name(name) for name in read_expected()} & LEARNED


def test_the_definitions_agree_with_figures_known_from_elsewhere() -> None:
    logits = np.log([0.7, 0.2, 0.1]).tolist()
    assert modified_entropy(logits, 0) == pytest.approx(0.16217, abs=5e-6)
    assert modified_entropy(logits, 2) == pytest.approx(2.95974, abs=5e-6)
    assert phi(logits, 0) == pytest.approx(0.84730, abs=5e-6)
    assert best_threshold([0.0, 1.0, 2.0, 3.0], [False, True, False, True]) == 2.5


def test_golden_records_are_as_told() -> None:
    arrays = read_arrays(ANSWERS)
    assert (arrays["reference_member"].sum(axis=0) == 8).all()
    assert arrays["member"].sum() == 30
    float32 = softmax(arrays["target_logits"], axis=2)[np.arange(60), 0, arrays["labels"]]
    assert float32.dtype == np.float32
    assert (float32[SURE_RECORDS] == 1).all()
    assert float32[WRONG] < 1e-6
    first, second = TWINS
    assert np.array_equal(arrays["target_logits"][first], arrays["target_logits"][second])
    assert arrays["member"][first] != arrays["member"][second]
    assert arrays["shadow_member"][arrays["shadow_labels"] == 4].all()
    size = sum(data_file(name).stat().st_size for name in (ANSWERS, MODEL, EXPECTED))
    assert size < 300_000


@pytest.mark.parametrize("seed", range(3))
def test_raymia_conforms_whatever_its_seed(seed: int) -> None:
    found = own_scores(seed)
    assert len(found) >= 31
    for name, scores in found.items():
        assert compared(name, scores).verdict is Verdict.EQUAL, name


def test_the_command_says_so() -> None:
    code, output, errors = run()
    assert (code, errors) == (0, "")
    assert "31 of 31 attacks conform." in output


def test_the_scores_of_an_audit_can_be_checked(folder: Path) -> None:
    assert run("--out", "kit")[0] == 0
    assert {path.name for path in (folder / "kit").iterdir()} == {
        *(ANSWERS, MODEL, EXPECTED, "README.md", "plain.py", "plain_references.py")
    }
    attacks = "loss,lira_online,rmia,nn_top3_posteriors"
    arguments = ["--signals", "kit/golden.npz", "--attacks", attacks, "--scores", "mine.parquet"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert guarded(lambda: audit.main(arguments, standalone_mode=False)) == 0
    code, output, errors = run("--check", "mine.parquet")
    assert (code, errors) == (0, "")
    assert "3 of 3 attacks conform." in output
    assert "Learned, no scores are expected: nn_top3_posteriors." in output
    assert "Not in the file: entropy, " in output


CASES: dict[str, tuple[str, Callable[[], Scores], Verdict, str | None]] = {
    "sign": ("lira_online", lambda: -own()["lira_online"], Verdict.REVERSED, "turn the sign"),
    "sign of a tuned one": ("rmia", lambda: -own()["rmia"], Verdict.REVERSED, "turn the sign"),
    "p for loss": ("loss", lambda: np.exp(own()["loss"]), Verdict.DIFFERS, None),
    "another scale": ("entropy", lambda: np.cbrt(own()["entropy"]), Verdict.SAME_ORDER, None),
    "divisor": (
        "lira_online_per_example",
        lambda: mistaken()[Mistake.DIVISOR]["lira_online_per_example"],
        Verdict.DIFFERS,
        "the divisor n where n - 1",
    ),
    "divisor, order kept": (
        "lira_offline_per_example",
        lambda: mistaken()[Mistake.DIVISOR]["lira_offline_per_example"],
        Verdict.SAME_ORDER,
        "the divisor n where n - 1",
    ),
    "divisor and sign": (
        "lira_online_per_example",
        lambda: -mistaken()[Mistake.DIVISOR]["lira_online_per_example"],
        Verdict.DIFFERS,
        "the divisor n where n - 1 belongs, and the sign turned",
    ),
    "probability": (
        "lira_online",
        lambda: mistaken()[Mistake.PROBABILITY]["lira_online"],
        Verdict.DIFFERS,
        "the probability p_y in the place of phi",
    ),
    "softmax twice": (
        "rmia_ratio",
        lambda: mistaken()[Mistake.SOFTMAX_TWICE]["rmia_ratio"],
        Verdict.DIFFERS,
        "probabilities taken for logits",
    ),
    "another attack": (
        "lira_offline",
        lambda: own()["lira_offline_two_sided"],
        Verdict.DIFFERS,
        "these are the scores of lira_offline_two_sided",
    ),
    "constant": ("loss", lambda: np.zeros(60), Verdict.DIFFERS, None),
}


@pytest.mark.parametrize("case", CASES)
def test_mistakes_are_caught_and_named(case: str) -> None:
    attack, scores, verdict, cause = CASES[case]
    found = compared(attack, scores())
    assert found.verdict is verdict
    assert found.passes == (verdict is Verdict.SAME_ORDER)
    assert found.cause is None if cause is None else cause in (found.cause or "")


def test_posteriors_rounded_in_float32_are_named() -> None:
    arrays = read_arrays(ANSWERS)
    p = softmax(arrays["target_logits"][:, 0], axis=1)[np.arange(60), arrays["labels"]]
    with np.errstate(divide="ignore"):
        rounded = compared("loss", np.log(p).astype(np.float64))
    assert rounded.verdict is Verdict.DIFFERS
    assert rounded.rank_correlation > 0.99
    assert "right but for the surest records: 1 - p was rounded to 0" in (rounded.cause or "")


def test_float64_posteriors_suffice() -> None:
    arrays = read_arrays(ANSWERS)
    log_p = log_softmax(arrays["target_logits"][:, 0].astype(np.float64), axis=1)
    assert compared("loss", log_p[np.arange(60), arrays["labels"]]).verdict is Verdict.EQUAL


def test_another_tools_mistake_ends_with_exit_code_1() -> None:
    scores = own()
    columns = {"lira_online": -scores["lira_online"], "loss": scores["loss"], "mine": scores["loss"]}
    np.savez("theirs.npz", **columns)  # type: ignore[arg-type]
    code, output, _ = run("--check", "theirs.npz")
    assert code == 1
    assert "reversed" in output
    assert "1 of 2 attacks conform." in output
    assert "Unknown to the kit: mine." in output


@pytest.mark.parametrize("form", ["csv", "parquet", "npz"])
def test_records_are_told_by_their_id(form: str) -> None:
    ids, loss = read_arrays(ANSWERS)["id"], own()["loss"]
    order = np.random.default_rng(0).permutation(60)
    columns = {"id": ids[order], "loss": loss[order]}
    path = Path(f"theirs.{form}")
    if form == "npz":
        np.savez(path, **columns)  # type: ignore[arg-type]
    elif form == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([[*columns], *zip(*(one.tolist() for one in columns.values()), strict=True)])
    code, output, _ = run("--check", str(path))
    assert (code, "1 of 1 attacks conform." in output) == (0, True)
    wrong = pa.table({"id": ids[order] + 1, "loss": loss[order]})
    pq.write_table(wrong, "wrong.parquet")
    assert "its ids are not those of the 60 golden records" in run("--check", "wrong.parquet")[2]


def bad_file(name: str) -> list[str]:
    np.savez("short.npz", loss=np.zeros(59))
    np.savez("nan.npz", loss=np.full(60, np.nan))
    np.savez("other.npz", mine=np.zeros(60))
    np.savez("text.npz", loss=np.array(["a"] * 60))
    Path("broken.parquet").write_text("no")
    Path("scores.txt").write_text("no")
    return ["--check", name]


BAD = {
    "short.npz": "loss must hold one number for each of the 60 golden records",
    "text.npz": "loss must hold one number for each of the 60 golden records",
    "nan.npz": "loss holds NaN: give every record a score",
    "other.npz": "no attack of the kit is in it; name the columns loss, entropy, ",
    "broken.parquet": "broken.parquet: cannot be read (",
    "scores.txt": "give a file that ends in .parquet, .csv or .npz",
    "none.npz": "there is no such file; correct the path",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(name: str) -> None:
    code, output, errors = run(*bad_file(name))
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert BAD[name] in errors


def test_the_two_options_exclude_each_other() -> None:
    assert run("--out", "a", "--check", "b")[0] == 2
    Path("file").write_text("")
    assert "--out file: is a file; give a folder" in run("--out", "file")[2]


def test_rank_correlation_averages_ties_and_forgives_rounding() -> None:
    one = np.array([1.0, 2.0, 2.0, 3.0])
    assert rank_correlation(one, one + 1e-13 * np.array([0, 1, -1, 0])) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert rank_correlation(one, np.ones(4)) == 0
