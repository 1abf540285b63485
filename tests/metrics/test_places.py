"""The frontiers of two and of three objectives, and the columns of frontier.csv that robust accuracy brings."""

import re
from collections.abc import Sequence
from dataclasses import replace
from math import hypot
from pathlib import Path

import numpy as np
import pytest

from raymia.errors import InputError
from raymia.metrics.intervals import t_interval, wilson
from raymia.metrics.places import robust_evaluation
from raymia.metrics.results import SettingResult
from raymia.metrics.table import read_csv, write_csv
from tests.metrics.made_results import row, setting, table, withstanding

SHIFTS = np.array([-0.02, 0.0, 0.02])


def made(name: str, defense: str, accuracy: float, auc: float, **robust: float) -> SettingResult:
    """Three seeds that differ by the same in all settings, in all they are measured by."""
    one = setting(name, defense, (accuracy + SHIFTS).tolist(), {"loss": (auc + SHIFTS).tolist()})
    return withstanding(one, **{evaluation: (value + SHIFTS).tolist() for evaluation, value in robust.items()})


NONE = made("none", "none", 0.80, 0.60, pgd20=0.05, aa=0.02)
# Less accurate and leakier than undefended, but robust.
TRAINED = made("pgd_at", "pgd_at", 0.70, 0.70, pgd20=0.45, aa=0.35)
# Beaten by the one above in everything but PGD-20.
MASKED = made("masked", "masked", 0.69, 0.72, pgd20=0.50, aa=0.30)
STUDY = [NONE, TRAINED, MASKED]


def places_of(results: Sequence[SettingResult], attack: str = "worst") -> dict[str, tuple[object, object]]:
    found = table(results)
    cells = {one.setting: row(found, one.setting, attack) for one in results}
    return {name: (one["on_robust_frontier"], one["p_on_robust_frontier"]) for name, one in cells.items()}


@pytest.mark.parametrize("attack", ["loss", "worst"])
def test_robustness_brings_a_setting_onto_the_frontier_of_three_objectives(attack: str) -> None:
    found = table(STUDY)
    assert [row(found, name, attack)["on_frontier"] for name in ("none", "pgd_at", "masked")] == [True, False, False]
    assert places_of(STUDY, attack) == {"none": (True, 1.0), "pgd_at": (True, 1.0), "masked": (False, 0.0)}


def test_robust_accuracy_is_to_be_large() -> None:
    # As good as undefended in all but robustness.
    fragile, tough = made("fragile", "fragile", 0.80, 0.60, aa=0.02), made("tough", "tough", 0.80, 0.60, aa=0.04)
    assert places_of([fragile, tough]) == {"fragile": (False, 0.0), "tough": (True, 1.0)}


def test_the_strongest_evaluation_that_every_setting_has_is_taken() -> None:
    assert robust_evaluation(STUDY) == "aa"
    cheaper = [NONE, TRAINED, made("masked", "masked", 0.69, 0.72, pgd20=0.50)]
    assert robust_evaluation(cheaper) == "pgd20"
    # By PGD-20 the masked one is ahead.
    assert places_of(cheaper)["masked"] == (True, 1.0)
    assert row(table(cheaper), "pgd_at", "worst")["delta_robust_accuracy"] == pytest.approx(0.40)
    assert row(table(STUDY), "pgd_at", "worst")["delta_robust_accuracy"] == pytest.approx(0.33)


def test_without_one_that_every_setting_has_there_is_no_such_frontier() -> None:
    lacking = [NONE, TRAINED, made("masked", "masked", 0.69, 0.72)]
    assert robust_evaluation(lacking) is None
    assert robust_evaluation([]) is None
    assert set(places_of(lacking).values()) == {(None, None)}
    cells = row(table(lacking), "pgd_at", "worst")
    assert cells["delta_robust_accuracy"] is cells["delta_robust_accuracy_low"] is None
    assert cells["robust_accuracy_aa"] == pytest.approx(0.35)


def test_settings_that_nothing_attacked_are_not_waited_for() -> None:
    alone = setting("unattacked", "unattacked", [0.9], {})
    assert robust_evaluation([*STUDY, alone]) == "aa"
    assert robust_evaluation([alone]) is None


def test_an_evaluation_that_has_no_column_is_refused() -> None:
    with pytest.raises(InputError, match="'pgd10': no such evaluation; give aa or pgd20"):
        table([NONE, made("m", "m", 0.7, 0.7, pgd10=0.3)])


def test_seed_rows_and_pooled_rows_carry_robust_accuracy_with_its_interval() -> None:
    found = table(STUDY)
    one = row(found, "pgd_at", "loss", seed=2)
    interval = wilson(0.37, 200)
    assert (one["robust_accuracy_aa"], one["robust_images"]) == (pytest.approx(0.37), 200)
    ends = (one["robust_accuracy_aa_low"], one["robust_accuracy_aa_high"])
    assert ends == pytest.approx((interval.low, interval.high))
    assert (one["robust_accuracy_pgd20"], one["delta_robust_accuracy"], one["on_robust_frontier"]) == (0.47, None, None)
    whole = row(found, "pgd_at", "worst")
    over = t_interval([0.33, 0.35, 0.37])
    assert over is not None
    assert (whole["robust_accuracy_aa"], whole["robust_images"]) == (pytest.approx(0.35), 600)
    assert (whole["robust_accuracy_aa_low"], whole["robust_accuracy_aa_high"]) == pytest.approx((over.low, over.high))


def test_the_fewest_images_are_told_where_evaluations_differ() -> None:
    seeds = []
    for one, other in zip(NONE.seeds, withstanding(NONE, 50, aa=[0.02, 0.04, 0.06]).seeds, strict=True):
        seeds.append(replace(one, robustness={**one.robustness, **other.robustness}))
    found = table([replace(NONE, seeds=tuple(seeds))])
    assert row(found, "none", "loss", seed=0)["robust_images"] == 50
    assert row(found, "none", "loss")["robust_images"] == 150


def test_the_difference_is_paired_by_seed() -> None:
    ours = withstanding(TRAINED, aa=[0.33, 0.36, 0.36])
    cells = row(table([NONE, ours]), "pgd_at", "loss")
    # Undefended withstands 0, 0.02, 0.04.
    expected = t_interval([0.33, 0.34, 0.32])
    assert expected is not None
    assert cells["delta_robust_accuracy"] == pytest.approx(0.33)
    assert (cells["delta_robust_accuracy_low"], cells["delta_robust_accuracy_high"]) == pytest.approx(
        (expected.low, expected.high)
    )
    base = row(table([NONE, ours]), "none", "loss")
    assert base["delta_robust_accuracy"] is base["delta_robust_accuracy_low"] is None


def test_equal_differences_keep_the_doubt_of_the_records() -> None:
    nothing = withstanding(setting("none", "none", [0.8, 0.8], {"loss": [0.6, 0.6]}), 500, pgd20=[0.0, 0.0])
    neither = withstanding(setting("m", "mixup", [0.8, 0.8], {"loss": [0.6, 0.6]}), 500, pgd20=[0.0, 0.0])
    cells = row(table([nothing, neither]), "m", "loss")
    # Wilson's upper end for 0 of 500: z² / (500 + z²).
    end = 1.959964**2 / (500 + 1.959964**2)
    ends = (cells["delta_robust_accuracy"], cells["delta_robust_accuracy_low"], cells["delta_robust_accuracy_high"])
    assert ends == pytest.approx((0.0, -end, end), abs=1e-6)
    # Of unequal settings each end takes the sides that make the difference so.
    better = withstanding(neither, 500, pgd20=[0.4, 0.4])
    high, low = wilson(0.4, 500), wilson(0.0, 500)
    cells = row(table([nothing, better]), "m", "loss")
    assert cells["delta_robust_accuracy_low"] == pytest.approx(0.4 - hypot(0.4 - high.low, low.high))
    assert cells["delta_robust_accuracy_high"] == pytest.approx(0.4 + (high.high - 0.4))


def test_one_seed_has_a_place_but_no_chance_and_no_interval() -> None:
    none = withstanding(setting("none", "none", [0.8], {"loss": [0.6]}), aa=[0.0])
    ours = withstanding(setting("m", "pgd_at", [0.7], {"loss": [0.7]}), aa=[0.4])
    cells = row(table([none, ours]), "m", "loss")
    assert (cells["on_robust_frontier"], cells["p_on_robust_frontier"]) == (True, None)
    assert (cells["delta_robust_accuracy"], cells["delta_robust_accuracy_low"]) == (pytest.approx(0.4), None)


def test_resamples_take_the_same_seeds_for_robust_accuracy() -> None:
    # Alike in accuracy and AUC; the first withstands more on one of two seeds, by less than the second on the other.
    alike = [setting(name, name, [0.8, 0.8], {"loss": [0.6, 0.6]}) for name in ("none", "m")]
    study = [withstanding(one, pgd20=values) for one, values in zip(alike, ([0.5, 0.5], [0.4, 0.7]), strict=True)]
    whole = table(study)
    # Of the resamples {0,0}, {0,1}, {1,0}, {1,1} it wins the first only.
    assert row(whole, "none", "loss")["p_on_robust_frontier"] == pytest.approx(0.25, abs=0.05)
    assert row(whole, "m", "loss")["p_on_robust_frontier"] == pytest.approx(0.75, abs=0.05)
    assert row(whole, "none", "loss")["p_on_frontier"] == row(whole, "m", "loss")["p_on_frontier"] == 1


@pytest.mark.parametrize("attack", ["loss", "worst"])
def test_a_resample_takes_the_same_seeds_for_all_objectives(attack: str) -> None:
    # Whatever is drawn, the second is more accurate where it leaks more, or the first one's equal.
    first = setting("none", "none", [0.75, 0.75], {"loss": [0.625, 0.625]})
    second = setting("m", "mixup", [0.875, 0.625], {"loss": [0.75, 0.5]})
    whole = table([withstanding(one, aa=[0.25, 0.25]) for one in (first, second)])
    for name in ("none", "m"):
        cells = row(whole, name, attack)
        assert (cells["p_on_frontier"], cells["p_on_robust_frontier"]) == (1, 1)


def test_the_worst_is_chosen_anew_in_each_resample_of_three_objectives() -> None:
    # Each attack is strong on one seed of the undefended model: its worst is 0.9 on {0,0} and {1,1}, else 0.7.
    none = setting("none", "none", [0.8, 0.8], {"loss": [0.9, 0.5], "entropy": [0.5, 0.9]})
    steady = setting("m", "mixup", [0.8, 0.8], {"loss": [0.8, 0.8], "entropy": [0.4, 0.4]})
    alike = [withstanding(one, aa=[0.1, 0.1]) for one in (none, steady)]
    p = {name: chance for name, (_, chance) in places_of(alike).items()}
    assert p == {"none": pytest.approx(0.5, abs=0.06), "m": pytest.approx(0.5, abs=0.06)}
    tougher = [withstanding(none, aa=[0.2, 0.2]), alike[1]]
    assert places_of(tougher) == {"none": (True, 1.0), "m": (False, pytest.approx(0.5, abs=0.06))}


def test_a_seed_without_robust_accuracy_is_left_out_of_three_objectives() -> None:
    # On the seed that it was not attacked on, the second is far ahead.
    ours = withstanding(setting("m", "mixup", [0.7, 0.7, 0.99], {"loss": [0.7, 0.7, 0.1]}), aa=[0.1] * 3)
    lacking = replace(ours, seeds=(*ours.seeds[:2], replace(ours.seeds[2], robustness={})))
    none = withstanding(setting("none", "none", [0.8] * 3, {"loss": [0.6] * 3}), aa=[0.2] * 3)
    found = table([none, lacking])
    assert row(found, "m", "loss")["p_on_frontier"] > 0.5  # type: ignore[operator]
    assert row(found, "m", "loss")["p_on_robust_frontier"] == 0
    assert row(found, "m", "worst")["p_on_robust_frontier"] == 0


def test_populations_stand_on_the_frontier_of_three_objectives_too() -> None:
    aucs = {"loss": 0.65, "loss/direct": 0.9, "loss/indirect": 0.55}
    apart = setting("diffusion", "diffusion", [0.7] * 3, {name: [auc] * 3 for name, auc in aucs.items()})
    found = table([NONE, withstanding(apart, aa=[0.01] * 3)])
    on = {
        population: row(found, "diffusion", "loss", population=population)["on_robust_frontier"]
        for population in ("all", "direct", "indirect")
    }
    # Less accurate and less robust than undefended: only a smaller AUC helps, against undefended's plain one.
    assert on == {"all": False, "direct": False, "indirect": True}
    assert row(found, "diffusion", "worst")["on_robust_frontier"] is False


def test_robustness_changes_nothing_else_in_the_table() -> None:
    bare = [replace(one, seeds=tuple(replace(seed, robustness={}) for seed in one.seeds)) for one in STUDY]
    for old, new in zip(table(bare), table(STUDY), strict=True):
        assert {name: value for name, value in new.items() if "robust" not in name} == {
            name: value for name, value in old.items() if "robust" not in name
        }
        assert all(value is None for name, value in old.items() if "robust" in name)


def test_the_columns_come_back_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "frontier.csv"
    for results in (STUDY, [NONE, made("masked", "masked", 0.69, 0.72)]):
        write_csv(table(results), path)
        assert read_csv(path) == table(results)
    cells = row(read_csv(path), "masked", "worst")
    assert [name for name, value in cells.items() if "robust" in name and value is not None] == []
    assert re.search(r"p_on_frontier,on_robust_frontier,p_on_robust_frontier$", path.read_text().splitlines()[0])
