"""The command on arrays: what it measures, writes and says."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import raymia
from raymia.attacks import ATTACKS, run_attack
from raymia.audit import audit
from raymia.auditing.evidence import evidence_of
from raymia.auditing.run import choose_attacks, requested_attacks
from raymia.cli import cli
from raymia.keys import array_digest
from raymia.metrics.roc import auc, tpr_at_fpr
from raymia.records.plan import reference_membership
from tests.attacks.test_attack_properties import quick
from tests.attacks.worlds import make_world
from tests.auditing.given import arrays_of, of_confidences, run, target_only, verdict, whole, write
from tests.study.command import Command


def test_known_scores_and_auc() -> None:
    arrays = of_confidences([3.0, 1.0] * 60, [2.0, 0.0] * 60) | {"id": np.arange(240)[::-1] * 7}
    code, output, errors = run("--signals", write(arrays), "--attacks", "loss", "--scores", "scores.parquet")
    assert (code, errors) == (0, "")
    found = verdict()
    loss = found["attacks"]["loss"]
    assert loss["auc"] == 0.75
    assert loss["auc_low"] < 0.75 < loss["auc_high"]
    assert (loss["tpr_at_fpr_0.1"], loss["tpr_at_fpr_0.1_realised"]) == (0.5, 0.0)
    assert loss["tpr_at_fpr_0.01"] == loss["tpr_at_fpr_0.01_low"] == "not resolvable"
    assert loss["balanced_accuracy"] == 0.75
    assert loss["balanced_accuracy_shadow"] is None
    assert (loss["interval_kind"], loss["knowledge"]) == ("records", ATTACKS["loss"].knowledge)
    assert (found["records"], found["members"], found["nonmembers"], found["seed"]) == (240, 120, 120, 0)
    assert found["versions"]["raymia"] == raymia.__version__
    assert found["given"]["target_logits"] == "float32[240, 2]"
    assert re.search(r"loss +0\.750\b", output)
    assert f"[{loss['auc_low']:.3f}, {loss['auc_high']:.3f}]" in output
    assert output.count("resolvable") == 2
    table = pq.read_table("scores.parquet")
    assert table.column_names == ["id", "member", "loss"]
    assert table["id"].to_pylist() == arrays["id"].tolist()
    assert table["member"].to_pylist() == arrays["member"].tolist()
    assert table["loss"].to_numpy() == pytest.approx(-np.log1p(np.exp(-arrays["target_logits"][:, 0].astype(float))))


def test_forty_nonmembers_resolve_no_low_rate() -> None:
    arrays = of_confidences([1.0] * 40, [0.0] * 40)
    code, output, _ = run("--signals", write(arrays), "--attacks", "loss")
    assert code == 0
    assert output.count("resolvable") == 3
    assert [verdict()["attacks"]["loss"][f"tpr_at_fpr_{fpr}"] for fpr in (0.1, 0.01, 0.001)] == ["not resolvable"] * 3


def test_every_attack_runs_that_can_and_every_other_is_named_with_its_remedy() -> None:
    arrays = target_only(whole(queries=1))
    code, output, _ = run("--signals", write(arrays))
    assert code == 0
    found = verdict()
    assert found["attacks"].keys() == {"loss", "entropy", "modified_entropy", "attack_p", "label_only_gap"}
    assert found["attacks"].keys() | found["not_run"].keys() == set(ATTACKS)
    assert found["not_run"]["loss_per_class"].endswith("give shadow_logits, shadow_labels and shadow_member")
    assert found["not_run"]["lira_online"].endswith("give reference_logits and reference_member")
    assert "several queries" in found["not_run"]["label_only_augmentation"]
    for name in found["not_run"]:
        assert re.search(rf"Not run: .*\b{name}\b", output)


def test_without_a_population_the_scored_records_stand_in_and_it_is_said() -> None:
    code, output, _ = run("--signals", write(target_only(whole())), "--attacks", "attack_p,loss")
    assert code == 0
    note = "Z = all scored records, whatever their membership: no population was handed in"
    assert verdict()["attacks"]["attack_p"]["notes"] == [note]
    assert verdict()["attacks"]["loss"]["notes"] == []
    assert f"Note: attack_p: {note}." in output
    assert run("--signals", write(whole()), "--attacks", "attack_p")[0] == 0
    assert verdict()["attacks"]["attack_p"]["notes"] == []


def test_three_in_references_leave_the_offline_attacks() -> None:
    arrays = whole(records=60)
    kept = reference_membership(60, models=16, seed=9, target=0)[:6]  # three complementary pairs of halves
    arrays |= {"reference_logits": arrays["reference_logits"][:6], "reference_member": kept}
    arrays["population_reference_logits"] = arrays["population_reference_logits"][:6]
    code, _, _ = run("--signals", write(arrays))
    assert code == 0
    found = verdict()
    assert {"lira_offline", "rmia_offline", "attack_r"} <= found["attacks"].keys()
    assert "rmia" in found["not_run"]
    assert found["not_run"]["lira_online"].endswith("here a record has 3: only offline attacks can be run")


def test_a_population_that_references_did_not_answer_leaves_out_those_who_ask() -> None:
    arrays = whole(records=60)
    del arrays["population_reference_logits"]
    attacks = "attack_p,rmia"
    code, _, errors = run("--signals", write(arrays), "--attacks", attacks)
    assert code == 2
    assert "attack rmia needs the references' answers on the population records: give them" in errors
    assert not Path("audit.json").exists()


def test_scores_are_those_of_the_attacks_and_repeat() -> None:
    world = make_world(3, 2.0, records=80)
    path = write(arrays_of(world))
    arguments = ("--signals", path, "--attacks", "rmia_ratio,lira_online,calibrated_loss,entropy", "--seed", "5")
    assert run(*arguments, "--scores", "scores.parquet")[0] == 0
    first = {name: Path(name).read_bytes() for name in ("audit.json", "audit_roc.png", "scores.parquet")}
    table = pq.read_table("scores.parquet")
    for name in ("rmia_ratio", "lira_online", "calibrated_loss", "entropy"):
        scores = run_attack(ATTACKS[name], world.view, world.target, np.random.default_rng(0))
        assert np.array_equal(table[name].to_numpy(), scores)
        assert verdict()["attacks"][name]["auc"] == auc(scores, world.member_N)
        assert verdict()["attacks"][name]["tpr_at_fpr_0.1"] == "not resolvable"
        assert tpr_at_fpr(scores, world.member_N, 0.1).tpr > 0
    assert run(*arguments, "--scores", "scores.parquet")[0] == 0
    assert {name: Path(name).read_bytes() for name in first} == first


def test_probabilities_are_accepted_by_flag_and_told_of_ties() -> None:
    arrays = whole(records=60)
    softmax = {name: posteriors(array) if name.endswith("logits") else array for name, array in arrays.items()}
    softmax["target_logits"][0] = np.eye(5)[arrays["labels"][0]]
    attacks = ("--attacks", "loss,lira_offline,nn_top3_posteriors", "--scores", "scores.parquet")
    assert run("--signals", write(arrays), *attacks)[0] == 0
    exact = pq.read_table("scores.parquet")
    code, output, _ = run("--signals", write(softmax), *attacks, "--probabilities")
    assert code == 0
    assert "1 of 60 records have one of exactly 0 or 1 for their class: they tie" in output
    found = pq.read_table("scores.parquet")
    for name in ("loss", "lira_offline"):
        assert found[name].to_numpy()[1:] == pytest.approx(exact[name].to_numpy()[1:], rel=1e-4, abs=1e-4)


def posteriors(logits: NDArray[Any]) -> NDArray[Any]:
    weights = np.exp(logits.astype(np.float64))
    found: NDArray[Any] = weights / weights.sum(axis=-1, keepdims=True)
    return found


def test_the_figure_goes_where_it_is_asked_for() -> None:
    path = write(of_confidences([1.0] * 30, [0.0] * 30))
    assert run("--signals", path, "--attacks", "loss", "--out", "deep/er/a.json")[0] == 0
    assert Path("deep/er/a_roc.png").read_bytes().startswith(b"\x89PNG")
    assert run("--signals", path, "--attacks", "loss", "--figure", "curves.svg")[0] == 0
    assert "<svg" in Path("curves.svg").read_text()
    assert not list(Path().rglob("*.partial"))


def test_the_largest_auc_has_an_interval_for_all_attacks_at_once() -> None:
    path = write(target_only(whole()))
    run("--signals", path, "--attacks", "loss")
    alone = verdict()["largest_auc"]
    assert (alone["auc_low"], alone["auc_high"]) == pytest.approx(
        [verdict()["attacks"]["loss"][name] for name in ("auc_low", "auc_high")]
    )
    run("--signals", path, "--attacks", "loss,entropy,label_only_gap")
    found = verdict()["largest_auc"]
    assert (found["attack"], found["auc"]) == ("loss", alone["auc"])
    assert found["auc_low"] < alone["auc_low"] < alone["auc_high"] < found["auc_high"]
    # It is of the largest true AUC, which may be another attack's: no attack's own interval reaches higher.
    assert found["auc_high"] >= max(one["auc_high"] for one in verdict()["attacks"].values())


def test_an_attack_of_another_package_is_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "their_attacks.py").write_text(
        "import numpy as np\n"
        "class Guess:\n"
        "    name = 'guess'\n    knowledge = 'nothing'\n    needs = frozenset()\n"
        "    def fit(self, view, rng): ...\n"
        "    def score(self, state, block): return np.zeros(len(block))\n"
        "class Crash(Guess):\n"
        "    name = 'crash'\n"
        "    def score(self, state, block): raise KeyError('oh')\n"
        "GUESS, CRASH = Guess(), Crash()\n"
    )
    info = folder / "their-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their\nVersion: 1.0\n")
    points = "[raymia.attacks]\nguess = their_attacks:GUESS\nbroken = their_attacks:NONE\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(folder))
    path = write(target_only(whole()))
    assert run("--signals", path)[0] == 0
    assert verdict()["attacks"]["guess"]["auc"] == 0.5
    assert "cannot be loaded" in verdict()["not_run"]["broken"]
    (info / "entry_points.txt").write_text(points + "crash = their_attacks:CRASH\n")
    Path("audit.json").unlink()
    code, _, errors = run("--signals", path)
    assert (code, errors.count("\n")) == (1, 1)
    assert "attack crash failed: KeyError: 'oh'; name others with --attacks" in errors
    assert not Path("audit.json").exists()


def test_it_is_a_module_and_a_verb_of_the_script(folder: Path) -> None:
    write(of_confidences([1.0] * 30, [0.0] * 30))
    found = Command(["--signals", "signals.npz", "--attacks", "loss"], folder, verb="audit").end()
    assert (found.code, found.errors) == (0, "")
    assert "Largest AUC: 1.000 by loss" in found.output
    assert cli.commands["audit"] is audit


def test_nobody_changes_what_was_handed_in() -> None:
    arrays = whole(records=60)
    before = {name: array_digest(array) for name, array in arrays.items()}
    evidence = evidence_of(arrays, {}, probabilities=False, equalize=False, seed=0)
    for attack in choose_attacks(requested_attacks("lira_online,rmia"), evidence).attacks:
        run_attack(attack, evidence.view, evidence.target, np.random.default_rng(0))
    assert {name: array_digest(array) for name, array in arrays.items()} == before


@pytest.mark.slow
def test_pure_noise_gives_chance_to_every_attack_at_16_references() -> None:
    found: dict[str, list[float]] = {}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        records, outside = 30_000, 1_000
        arrays = {
            "target_logits": noise(rng, records),
            "labels": rng.integers(0, 3, records),
            "member": rng.permutation(np.arange(records) % 2 == 0),
            "reference_logits": noise(rng, 16, records),
            "reference_member": reference_membership(records, models=16, seed=seed, target=0),
            "shadow_logits": noise(rng, outside),
            "shadow_labels": rng.integers(0, 3, outside),
            "shadow_member": rng.permutation(np.arange(outside) % 2 == 0),
            "population_logits": noise(rng, outside),
            "population_labels": rng.integers(0, 3, outside),
            "population_reference_logits": noise(rng, 16, outside),
        }
        evidence = evidence_of(arrays, {}, probabilities=False, equalize=False, seed=seed)
        for attack in choose_attacks(None, evidence).attacks:
            scores = run_attack(quick(attack), evidence.view, evidence.target, rng)
            found.setdefault(attack.name, []).append(auc(scores, evidence.member_N))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    assert len(means) >= 33
    # Standard error of each mean: .0012. All attacks see the same eight targets, so they err together.
    assert {name: mean for name, mean in means.items() if abs(mean - 0.5) > 0.005} == {}


def noise(rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    return rng.standard_normal((*shape, 2, 3), dtype=np.float32)
