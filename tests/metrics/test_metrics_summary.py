from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raymia.errors import InputError
from raymia.metrics.intervals import t_interval
from raymia.metrics.results import SettingResult
from raymia.metrics.summary import columns, rows
from raymia.metrics.table import read_csv, write_csv
from raymia.privacy import Guarantee
from tests.metrics.made_results import Rows, row, setting, table

NONE = setting("none", "none", [0.80, 0.82, 0.84], {"loss": [0.60, 0.65, 0.70], "entropy": [0.58, 0.62, 0.66]})
# Half a point of AUC less in every seed, though the seeds differ by ten times that.
BETTER = setting(
    "mixup 0.5",
    "mixup",
    [0.79, 0.81, 0.82],
    {"loss": [0.55, 0.60, 0.651], "entropy": [0.57, 0.63, 0.66]},
    {"mixup.alpha": 0.5},
)
# Accuracy lost, leakage gained.
WORSE = setting(
    "smooth, 0.1",
    "label_smoothing",
    [0.70, 0.71, 0.72],
    {"loss": [0.70, 0.75, 0.801], "entropy": [0.50, 0.62, 0.74]},
    {"label_smoothing.epsilon": 0.1, "label_smoothing.form": "torch"},
)
STUDY = [NONE, BETTER, WORSE]


DP = ("epsilon", "delta", "epsilon_lower")


def test_what_dp_sgd_spends_stands_in_every_row_of_its_setting() -> None:
    private = replace(STUDY[1], guarantee=Guarantee(8.0, 1e-3, "prv"))
    found = table([STUDY[0], private, *STUDY[2:]])
    assert {(row["epsilon"], row["delta"]) for row in found if row["setting"] == private.setting} == {(8.0, 1e-3)}
    assert {row["epsilon"] for row in found if row["setting"] != private.setting} == {None}


def test_columns_in_order() -> None:
    expected = (
        "setting,defense,label_smoothing.epsilon,label_smoothing.form,mixup.alpha,seed,train_accuracy,test_accuracy,"
        "generalization_gap,test_accuracy_low,test_accuracy_high,ece,"
        "robust_accuracy_pgd20,robust_accuracy_pgd20_low,robust_accuracy_pgd20_high,"
        "robust_accuracy_aa,robust_accuracy_aa_low,robust_accuracy_aa_high,robust_images,"
        "epsilon,delta,attack,population,members,nonmembers,"
        "auc,auc_low,auc_high,interval_kind,"
        "tpr_at_fpr_0.1,tpr_at_fpr_0.1_low,tpr_at_fpr_0.1_high,tpr_at_fpr_0.1_realised,"
        "tpr_at_fpr_0.01,tpr_at_fpr_0.01_low,tpr_at_fpr_0.01_high,tpr_at_fpr_0.01_realised,"
        "tpr_at_fpr_0.001,tpr_at_fpr_0.001_low,tpr_at_fpr_0.001_high,tpr_at_fpr_0.001_realised,"
        "balanced_accuracy,balanced_accuracy_low,balanced_accuracy_high,"
        "balanced_accuracy_shadow,balanced_accuracy_shadow_low,balanced_accuracy_shadow_high,"
        "ppv_prior_0.01,ppv_prior_0.1,epsilon_lower,delta_auc,delta_auc_low,delta_auc_high,"
        "delta_test_accuracy,delta_test_accuracy_low,delta_test_accuracy_high,"
        "delta_robust_accuracy,delta_robust_accuracy_low,delta_robust_accuracy_high,"
        "verdict,on_frontier,p_on_frontier,on_robust_frontier,p_on_robust_frontier"
    )
    assert ",".join(columns(STUDY)) == expected
    assert all(",".join(one) == expected for one in table(STUDY))


def test_a_row_for_each_setting_attack_and_seed_then_the_pooled_ones() -> None:
    keys = [(one["setting"], one["seed"], one["attack"]) for one in table([NONE])]
    assert keys == [
        *(("none", seed, attack) for seed in range(3) for attack in ("loss", "entropy")),
        *(("none", "pooled", attack) for attack in ("loss", "entropy", "worst")),
    ]


def test_without_populations_the_table_is_what_it_was_before_there_were_any() -> None:
    before = read_csv(Path(__file__).with_name("frontier_of_plain_names.csv"))
    now = table(STUDY)
    assert {one["population"] for one in now} == {"all"}
    assert {one["members"] for one in now if one["attack"] != "worst"} == {150}
    for old, new in zip(before, now, strict=True):
        assert list(new) == list(columns(STUDY))
        later = {name for name in new if "robust" in name} | {"population", "members", "nonmembers", *DP}
        assert {name: new[name] for name in new if name not in later} == pytest.approx(old)
        assert all(new[name] is None for name in new if "robust" in name)


def test_cells_of_a_seed() -> None:
    cells = row(table(STUDY), "mixup 0.5", "loss", seed=1)
    assert (cells["auc"], cells["auc_low"], cells["interval_kind"]) == (0.60, 0.60 - 0.05, "records")
    assert (cells["mixup.alpha"], cells["label_smoothing.form"]) == (0.5, None)
    assert (cells["test_accuracy"], cells["train_accuracy"]) == (0.81, 1.0)
    assert (cells["tpr_at_fpr_0.1"], cells["tpr_at_fpr_0.1_realised"]) == (0.2, 0.09)
    assert (cells["ppv_prior_0.1"], cells["balanced_accuracy_high"]) == (0.198, 0.61)
    assert cells["verdict"] is None
    assert cells["on_frontier"] is None


def test_too_few_nonmembers_are_said_in_words() -> None:
    cells = row(table(STUDY), "none", "loss")
    assert cells["tpr_at_fpr_0.01"] == cells["tpr_at_fpr_0.001"] == "not resolvable"
    assert cells["tpr_at_fpr_0.01_low"] is cells["tpr_at_fpr_0.01_realised"] is None


def test_verdicts_come_from_paired_intervals() -> None:
    whole = table(STUDY)
    assert row(whole, "mixup 0.5", "loss")["verdict"] == "less leakage than undefended"
    assert row(whole, "mixup 0.5", "entropy")["verdict"] == "not distinguishable from undefended"
    assert row(whole, "smooth, 0.1", "loss")["verdict"] == "more leakage than undefended"
    assert row(whole, "none", "loss")["verdict"] == "undefended"
    cells = row(whole, "mixup 0.5", "loss")
    expected = t_interval([-0.05, -0.05, -0.049])
    assert expected is not None
    assert cells["delta_auc"] == pytest.approx(-0.149 / 3)
    assert cells["delta_auc_low"] == pytest.approx(expected.low)
    assert cells["delta_auc_high"] == pytest.approx(expected.high)
    assert cells["delta_test_accuracy"] == pytest.approx(-0.04 / 3)
    # The two settings' own intervals overlap widely: without pairing nothing could be told.
    assert cells["auc_high"] > row(whole, "none", "loss")["auc_low"]  # type: ignore[operator]


def test_only_common_seeds_are_compared() -> None:
    shorter = replace(BETTER, seeds=BETTER.seeds[:2])
    assert row(table([NONE, shorter]), "mixup 0.5", "loss")["delta_auc"] == pytest.approx(-0.05)
    apart = replace(BETTER, seeds=tuple(replace(one, seed=one.seed + 10) for one in BETTER.seeds))
    cells = row(table([NONE, apart]), "mixup 0.5", "loss")
    assert cells["delta_auc"] is None
    assert cells["verdict"] == "no seed in common with undefended"


def test_one_seed_has_no_paired_interval() -> None:
    none = setting("none", "none", [0.8], {"loss": [0.6], "entropy": [0.58]})
    mixup = setting("m", "mixup", [0.7], {"loss": [0.5], "entropy": [0.5]})
    cells = row(table([none, mixup]), "m", "loss")
    assert cells["delta_auc"] == pytest.approx(-0.1)
    assert cells["delta_auc_low"] is cells["delta_test_accuracy_low"] is cells["p_on_frontier"] is None
    assert cells["verdict"] == "one seed: no paired interval"
    assert cells["on_frontier"] is True
    # The worst of two attacks is judged at 97.5%: wider than the records' own 95%.
    worst = row(table([none, mixup]), "none", "worst")
    assert worst["auc"] == 0.6
    assert 0.5 < worst["auc_low"] < 0.55  # type: ignore[operator]
    assert 0.65 < worst["auc_high"] < 0.7  # type: ignore[operator]


def test_without_undefended_nothing_is_compared() -> None:
    cells = row(table([BETTER]), "mixup 0.5", "loss")
    assert cells["verdict"] == "no undefended setting"
    assert cells["delta_auc"] is None
    only_loss = setting("none", "none", [0.8, 0.8, 0.81], {"loss": [0.6, 0.6, 0.61]})
    assert row(table([only_loss, BETTER]), "mixup 0.5", "entropy")["verdict"] == "attack not run on undefended"


def test_frontier_per_attack_and_for_the_worst() -> None:
    whole = table(STUDY)
    on = {(one["setting"], one["attack"]): one["on_frontier"] for one in whole if one["seed"] == "pooled"}
    # By loss: less accuracy buys a lower AUC, except in WORSE. By entropy (all means 0.62) only accuracy counts.
    assert [on[name, "loss"] for name in ("none", "mixup 0.5", "smooth, 0.1")] == [True, True, False]
    assert [on[name, "entropy"] for name in ("none", "mixup 0.5", "smooth, 0.1")] == [True, False, False]
    # The worst attack on BETTER is entropy (0.62): still better than loss on the undefended model.
    assert [on[name, "worst"] for name in ("none", "mixup 0.5", "smooth, 0.1")] == [True, True, False]
    assert row(whole, "mixup 0.5", "worst")["auc"] == pytest.approx(0.62)
    assert row(whole, "none", "worst")["auc"] == pytest.approx(0.65)
    assert row(whole, "smooth, 0.1", "loss")["p_on_frontier"] == 0
    assert row(whole, "none", "loss")["p_on_frontier"] == 1


def test_the_worst_is_chosen_anew_in_each_resample() -> None:
    # Each attack is strong on one seed of the undefended model: its worst is 0.9 on {0,0} and {1,1}, else 0.7.
    none = setting("none", "none", [0.8, 0.8], {"loss": [0.9, 0.5], "entropy": [0.5, 0.9]})
    steady = setting("m", "mixup", [0.8, 0.8], {"loss": [0.8, 0.8], "entropy": [0.4, 0.4]})
    whole = rows([none, steady], np.random.default_rng(5))
    assert row(whole, "none", "worst")["p_on_frontier"] == pytest.approx(0.5, abs=0.06)
    assert row(whole, "m", "worst")["p_on_frontier"] == pytest.approx(0.5, abs=0.06)
    assert row(whole, "none", "loss")["p_on_frontier"] == pytest.approx(0.75, abs=0.06)


def test_a_study_without_attacks_has_no_rows() -> None:
    assert table([setting("none", "none", [0.8], {})]) == []


def test_the_worst_row_compares_worst_with_worst() -> None:
    cells = row(table(STUDY), "mixup 0.5", "worst")
    # Entropy on BETTER minus loss on NONE, seed by seed, at level 0.05 / 2.
    expected = t_interval([-0.03, -0.02, -0.04], 0.025)
    assert expected is not None
    assert (cells["delta_auc"], cells["delta_auc_low"]) == pytest.approx((-0.03, expected.low))
    assert cells["interval_kind"] == "seeds"
    assert cells["tpr_at_fpr_0.1"] is None


def test_csv_is_the_same_bytes_and_comes_back(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    write_csv(table(STUDY), first)
    write_csv(table(STUDY), second)
    assert first.read_bytes() == second.read_bytes()
    assert b"\r" not in first.read_bytes()
    assert read_csv(first) == table(STUDY)
    assert first.read_text().splitlines()[1].startswith("none,none,,,,0,1.0,0.8,")
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "b.csv"}


def test_csv_types(tmp_path: Path) -> None:
    values: Rows = [
        {"setting": "007", "x": np.float64(1 / 3), "on": np.bool_(True), "n": np.int64(3), "none": None, "q": 'a,"b\n'}
    ]
    write_csv(values, tmp_path / "t.csv")
    back = read_csv(tmp_path / "t.csv")
    assert back == [{"setting": "007", "x": 1 / 3, "on": True, "n": 3, "none": None, "q": 'a,"b\n'}]
    assert isinstance(back[0]["n"], int)


def test_a_failed_write_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "frontier.csv"
    write_csv([{"setting": "old"}], path)

    def no_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", no_disk)
    with pytest.raises(OSError, match="no space"):
        write_csv([{"setting": "new"}], path)
    assert read_csv(path) == [{"setting": "old"}]
    assert [one.name for one in tmp_path.iterdir()] == ["frontier.csv"]


def test_bad_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        write_csv([], tmp_path / "t.csv")
    with pytest.raises(InputError, match="different columns"):
        write_csv([{"a": 1}, {"b": 1}], tmp_path / "t.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([NONE, NONE], "given twice"),
        ([NONE, replace(NONE, setting="again")], "two settings"),
        ([replace(NONE, seeds=())], "one or more"),
        ([replace(NONE, seeds=NONE.seeds[:1] * 2)], "each once"),
        ([replace(NONE, pooled={"loss": NONE.pooled["loss"]})], "pool each"),
        ([setting("s", "none", [0.5], {"worst": [0.5]})], "rename yours"),
        ([setting("s", "none", [0.5], {"loss": [0.5]}, {"auc": 1.0})], "prefix it"),
    ],
)
def test_bad_results_are_refused(results: list[SettingResult], message: str) -> None:
    with pytest.raises(InputError, match=message):
        table(results)


def test_the_rows_repeat() -> None:
    assert table(STUDY) == table(STUDY)
    assert rows([], np.random.default_rng(0)) == []
