"""Optimism and gap from two tables, and which settings are worth it."""

from typing import Any

import numpy as np
import pytest

from raymia.errors import InputError
from raymia.metrics.intervals import Interval
from raymia.metrics.results import WORST
from raymia.metrics.summary import POOLED
from raymia.metrics.verification import to_verify, verified_settings

Row = dict[str, Any]


def rows_of(setting: str, aucs: dict[str, list[float]], accuracy: float = 0.8, **more: Any) -> list[Row]:
    """A row for each target, with an interval of the records .04 wide, and the pooled one that ends a table."""
    ends = {"test_accuracy_low": accuracy - 0.02, "test_accuracy_high": accuracy + 0.03}
    base = {"setting": setting, "defense": setting.split()[0], "population": "all", "test_accuracy": accuracy} | ends
    each = [
        {**base, **more, "attack": attack, "seed": seed, "auc": auc, "auc_low": auc - 0.02, "auc_high": auc + 0.02}
        for attack, values in aucs.items()
        for seed, auc in enumerate(values)
    ]
    return [*each, {**base, **more, "seed": POOLED, "attack": WORST, "auc": 1.0}]


def test_optimism_is_fresh_less_searched_of_the_attack_the_search_found_worst() -> None:
    searched = rows_of("mixup", {"loss": [0.60, 0.62, 0.64], "entropy": [0.50, 0.52, 0.54]})
    fresh = rows_of("mixup", {"loss": [0.70, 0.72, 0.74], "entropy": [0.80, 0.80, 0.80], "lira": [0.75, 0.78, 0.81]})
    [found] = verified_settings(searched, fresh)
    assert (found.weak, found.strong) == ("loss", "entropy")
    assert found.optimism.value == pytest.approx(0.10)
    # Welch: both variances .0004, three targets each: half width t(.975, 4) sqrt(2 · .0004 / 3).
    assert found.optimism.interval is not None
    half = 2.7764451 * np.sqrt(2 * 0.0004 / 3)
    assert found.optimism.interval.high - found.optimism.value == pytest.approx(half, rel=1e-6)
    assert found.gap.value == pytest.approx(0.08)


def test_the_gap_is_paired_by_target_and_holds_for_all_attacks_at_once() -> None:
    searched = rows_of("mixup", {"loss": [0.6, 0.7, 0.8]})
    fresh = rows_of("mixup", {"loss": [0.6, 0.7, 0.8], "lira": [0.7, 0.8, 0.901], "rmia": [0.55, 0.65, 0.76]})
    [found] = verified_settings(searched, fresh)
    assert found.gap.value == pytest.approx(0.1, abs=1e-3)
    assert found.gap.interval is not None
    # The paired differences are .1 on nearly every target: little doubt, whatever the targets' own spread.
    assert found.gap.interval.low == pytest.approx(0.1, abs=0.01)
    assert found.strong_auc.interval is not None
    assert found.strong_auc.interval.high - found.strong_auc.interval.low > 0.2


def test_targets_that_agree_leave_the_doubt_of_the_records() -> None:
    same = {"loss": [0.6, 0.6, 0.6], "lira": [0.7, 0.7, 0.7]}
    [found] = verified_settings(rows_of("mixup", same), rows_of("mixup", same))
    for measured in (found.searched_auc, found.weak_auc, found.strong_auc):
        assert measured.interval is not None
        assert measured.interval.width > 0.035
    # Newcombe, of two intervals .04 wide about the same value: √2 times as wide.
    assert found.optimism.interval is not None
    assert (found.optimism.interval.low, found.optimism.interval.high) == pytest.approx((-0.0283, 0.0283), abs=1e-4)
    assert found.gap.value == pytest.approx(-0.1)  # lira was the worst of the search already
    # Equal on paper: sums of thirds that differ in their last digits.
    rounded = {"loss": [0.1 + 0.2, 0.3, 0.3]}
    [found] = verified_settings(rows_of("mixup", rounded), rows_of("mixup", rounded))
    assert found.searched_auc.interval is not None
    assert found.searched_auc.interval.width > 0.035


def test_a_gap_that_is_the_same_on_every_target_has_the_doubt_of_the_records() -> None:
    fresh = rows_of("mixup", {"loss": [0.5, 0.625, 0.75], "lira": [0.625, 0.75, 0.875]})
    [found] = verified_settings(rows_of("mixup", {"loss": [0.6, 0.6, 0.6]}), fresh)
    assert found.gap.value == pytest.approx(0.125)
    assert found.gap.interval is not None
    assert found.gap.interval.low < 0.11
    assert found.gap.interval.high > 0.14


def test_accuracies_are_those_of_the_table_with_its_intervals() -> None:
    robust = {f"robust_accuracy_pgd20{end}": value for end, value in (("", 0.0), ("_low", 0.0), ("_high", 0.037))}
    searched = rows_of("mixup", {"loss": [0.6, 0.7]}, accuracy=0.8, **robust)
    [found] = verified_settings(searched, rows_of("mixup", {"loss": [0.6, 0.7]}, accuracy=0.7, **robust))
    for measured, value in ((found.searched_accuracy, 0.8), (found.accuracy, 0.7)):
        assert measured.value == value
        assert measured.interval == Interval(value - 0.02, value + 0.03)
    # Of models that withstand nothing, on every target.
    [before, after] = found.robust["pgd20"]
    assert before == after
    assert after.interval == Interval(0.0, 0.037)


def test_the_strongest_attacks_interval_holds_for_all_it_was_picked_from() -> None:
    fresh = rows_of("mixup", {"loss": [0.60, 0.61, 0.62], "lira": [0.70, 0.71, 0.72], "rmia": [0.50, 0.51, 0.52]})
    [found] = verified_settings(rows_of("mixup", {"loss": [0.6, 0.6, 0.6]}), fresh)
    # Student t with 2 degrees of freedom at 1 - .05 / 3, deviation .01.
    half = 7.6488 * 0.01 / np.sqrt(3)
    assert found.strong_auc.interval is not None
    assert found.strong_auc.interval.low == pytest.approx(0.71 - half, abs=1e-4)
    assert found.strong_auc.interval.high == pytest.approx(0.71 + half, abs=1e-4)


def test_one_target_has_no_interval() -> None:
    [found] = verified_settings(rows_of("mixup", {"loss": [0.6]}), rows_of("mixup", {"loss": [0.7], "lira": [0.9]}))
    assert found.optimism.value == pytest.approx(0.1)
    assert found.optimism.interval is None
    assert found.gap.interval is None


def test_pooled_rows_and_generators_are_no_targets() -> None:
    searched = [
        *rows_of("mixup", {"loss": [0.6, 0.7]}),
        {**rows_of("mixup", {"loss": [0.9]})[0], "seed": POOLED, "attack": "loss"},
        {**rows_of("mixup", {"denoising_loss": [0.99]})[0], "population": "generator"},
    ]
    [found] = verified_settings(searched, searched)
    assert found.weak == "loss"
    assert found.searched_auc.value == pytest.approx(0.65)
    assert found.optimism.value == 0


def test_populations_are_measures_of_their_own() -> None:
    direct = [{**row, "population": "direct"} for row in rows_of("d", {"loss": [0.7, 0.7]})]
    rows = rows_of("d", {"loss": [0.6, 0.6]}) + direct
    assert verified_settings(rows, rows)[0].weak == "loss/direct"


def test_tables_without_a_common_setting_are_refused() -> None:
    with pytest.raises(InputError, match="no setting is in both"):
        verified_settings(rows_of("mixup", {"loss": [0.6]}), rows_of("none", {"loss": [0.6]}))


def worst(setting: str, on: bool, **hyperparameters: Any) -> Row:
    defense = setting.split()[0]
    return {
        "setting": setting, "defense": defense, "seed": POOLED, "attack": WORST, "on_frontier": on, **hyperparameters
    }  # fmt: skip


def test_undefended_the_frontier_and_one_step_around_it() -> None:
    alphas = [0.1, 0.2, 0.3, 0.4, 0.5]
    rows = [worst("none", False)]
    rows += [worst(f"mixup {a}", a == 0.3, **{"mixup.alpha": a, "dropout.rate": None}) for a in reversed(alphas)]
    rows += [worst(f"dropout {r}", r == 0.1, **{"mixup.alpha": None, "dropout.rate": r}) for r in (0.1, 0.2, 0.5)]
    assert to_verify(rows) == ["none", "mixup 0.4", "mixup 0.3", "mixup 0.2", "dropout 0.1", "dropout 0.2"]
    assert to_verify(rows, neighbors=False) == ["none", "mixup 0.3", "dropout 0.1"]


def test_a_neighbor_differs_in_one_number_alone() -> None:
    grid = {
        (a, w): worst(f"d {a} {w}", (a, w) == (1, 1), **{"d.a": a, "d.w": w, "d.kind": "x"})
        for a in (1, 2)
        for w in (1, 2)
    }
    other = worst("d other", False, **{"d.a": 2, "d.w": 1, "d.kind": "y"})
    assert to_verify([*grid.values(), other]) == ["d 1 1", "d 1 2", "d 2 1"]
