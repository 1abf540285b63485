"""Measures of some of the members: their names, their comparisons, their frontiers, and the worst of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.errors import InputError
from raymia.metrics.comparison import Scored, kind_of, paired_on_records
from raymia.metrics.delong import paired_auc_difference
from raymia.metrics.intervals import Interval, t_interval
from raymia.metrics.membership import measure_attack
from raymia.metrics.populations import POPULATIONS, arranged, counterpart, has_apart, named, of_members, parts
from raymia.metrics.results import SeedResult, SettingResult
from raymia.metrics.table import read_csv, write_csv
from tests.metrics.made_results import attack_metrics, row, setting, table, utility

NONE = setting("none", "none", [0.80, 0.82, 0.84], {"loss": [0.60, 0.65, 0.70], "entropy": [0.58, 0.62, 0.66]})
# What the attack on the generator finds must not enter any comparison: it is larger than everything else.
APART = setting(
    "diffusion",
    "diffusion_mixup",
    [0.79, 0.81, 0.82],
    {
        "denoising_loss/generator": [0.97, 0.98, 0.99],
        "loss/indirect": [0.52, 0.53, 0.55],
        "loss": [0.56, 0.60, 0.62],
        "loss/direct": [0.80, 0.84, 0.89],
        "entropy": [0.55, 0.55, 0.58],
    },
)
NAMES = st.builds(named, st.sampled_from(["loss", "nn_sorted_logits", "a b"]), st.sampled_from(POPULATIONS))


@given(NAMES)
def test_a_name_and_its_parts_are_one_and_the_same(name: str) -> None:
    assert named(*parts(name)) == name
    assert ("/" in name) == (parts(name)[1] != "all")


@pytest.mark.parametrize("name", ["", "/direct", "loss/", "loss/all", "loss/any", "loss/Direct", "loss/direct/direct"])
def test_a_name_of_no_known_form_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"measure .*name it <attack>"):
        parts(name)


def test_a_slash_in_an_attacks_name_is_refused() -> None:
    for attack in ("loss/direct", "a/b"):
        with pytest.raises(InputError, match="/"):
            named(attack)


def test_measures_stand_by_attack_then_population_and_the_generators_last() -> None:
    given_names = ["copies/generator", "loss/indirect", "nn", "loss", "loss/direct", "loss"]
    assert arranged(given_names) == ["loss", "loss/direct", "loss/indirect", "nn", "copies/generator"]
    assert of_members(given_names) == ["loss", "loss/direct", "loss/indirect", "nn"]


@given(st.lists(NAMES))
def test_arranging_keeps_every_measure_once(names: list[str]) -> None:
    found = arranged(names)
    assert sorted(found) == sorted(set(names))
    assert arranged(found) == found
    assert has_apart(found) == any(name.endswith("direct") for name in names)


@pytest.mark.parametrize(
    ("name", "others", "expected"),
    [
        ("loss/direct", ["loss", "loss/direct"], "loss/direct"),
        ("loss/direct", ["loss", "entropy"], "loss"),
        ("loss/indirect", ["loss"], "loss"),
        # Where nothing was trained on directly, "all" is not "direct".
        ("loss/direct", ["loss", "loss/indirect"], None),
        # Nor is it where this attack alone was not measured apart.
        ("nn/direct", ["nn", "loss", "loss/direct"], None),
        ("nn/direct", ["loss"], None),
        ("loss", ["loss/direct"], None),
        ("copies/generator", ["copies"], None),
    ],
)
def test_what_a_population_is_held_against(name: str, others: list[str], expected: str | None) -> None:
    assert counterpart(name, others) == expected


def test_rows_of_a_setting_with_populations() -> None:
    keys = [(one["seed"], one["attack"], one["population"]) for one in table([NONE, APART]) if one["setting"] != "none"]
    measures = [("loss", "all"), ("loss", "direct"), ("loss", "indirect"), ("entropy", "all")]
    measures.append(("denoising_loss", "generator"))
    assert keys == [
        *((seed, *measure) for seed in range(3) for measure in measures),
        *(("pooled", *measure) for measure in measures),
        ("pooled", "worst", "any"),
    ]
    assert row(table([NONE, APART]), "none", "worst")["population"] == "all"


def test_member_counts_are_the_measures_own(tmp_path: Path) -> None:
    few = replace(attack_metrics(0.8), members=7, nonmembers=90)
    one = replace(APART, pooled=APART.pooled | {"loss/direct": few})
    write_csv(table([NONE, one]), tmp_path / "frontier.csv")
    cells = row(read_csv(tmp_path / "frontier.csv"), "diffusion", "loss", population="direct")
    assert (cells["members"], cells["nonmembers"], cells["population"]) == (7, 90, "direct")


def test_a_population_is_compared_with_all_members_of_undefended_by_seed() -> None:
    whole = table([NONE, APART])
    direct = row(whole, "diffusion", "loss", population="direct")
    expected = t_interval([0.20, 0.19, 0.19])
    assert expected is not None
    assert direct["delta_auc"] == pytest.approx(0.58 / 3)
    assert (direct["delta_auc_low"], direct["delta_auc_high"]) == pytest.approx((expected.low, expected.high))
    assert direct["verdict"] == "more leakage than undefended"
    indirect = row(whole, "diffusion", "loss", population="indirect")
    assert indirect["delta_auc"] == pytest.approx(-0.35 / 3)
    assert indirect["verdict"] == "less leakage than undefended"
    assert row(whole, "diffusion", "loss", population="all")["delta_auc"] == pytest.approx(-0.17 / 3)


def test_attacks_on_the_generator_are_compared_with_nothing_and_never_the_worst() -> None:
    whole = table([NONE, APART])
    generator = row(whole, "diffusion", "denoising_loss")
    assert generator["auc"] == pytest.approx(0.98)
    compared = ("delta_auc", "delta_test_accuracy", "verdict", "on_frontier", "p_on_frontier")
    assert [generator[name] for name in compared] == [None] * 5
    worst = row(whole, "diffusion", "worst")
    assert worst["auc"] == pytest.approx(2.53 / 3)
    assert worst["members"] is None


def test_the_worst_holds_for_all_attacks_and_populations_at_once() -> None:
    worst = row(table([NONE, APART]), "diffusion", "worst")
    # Four measures of members: loss in three populations, entropy in one.
    series = [[0.80, 0.84, 0.89], [0.52, 0.53, 0.55], [0.56, 0.60, 0.62], [0.55, 0.55, 0.58]]
    intervals = [interval for aucs in series if (interval := t_interval(aucs, 0.05 / 4)) is not None]
    assert worst["auc_low"] == pytest.approx(max(interval.low for interval in intervals))
    assert worst["auc_high"] == pytest.approx(min(max(interval.high for interval in intervals), 1.0))
    # Its worst, loss on the directly trained, minus undefended's, loss, at the same level.
    expected = t_interval([0.20, 0.19, 0.19], 0.05 / 4)
    assert expected is not None
    assert (worst["delta_auc"], worst["delta_auc_low"]) == pytest.approx((0.58 / 3, expected.low))
    assert worst["verdict"] == "more leakage than undefended"


def test_each_population_has_its_own_frontier_with_the_plain_settings_on_it() -> None:
    # More accurate than the diffusion setting, with an AUC between that of its two populations.
    plain = setting("m", "mixup", [0.80, 0.82, 0.83], {"loss": [0.55, 0.58, 0.59], "entropy": [0.6, 0.6, 0.6]})
    whole = table([NONE, plain, APART])
    on = {name: row(whole, "diffusion", "loss", population=name) for name in ("all", "direct", "indirect")}
    assert {name: (cells["on_frontier"], cells["p_on_frontier"]) for name, cells in on.items()} == {
        "all": (False, 0),
        "direct": (False, 0),
        "indirect": (True, 1),
    }
    # On the worst measure it loses as well: direct members are what an attacker would look at.
    assert row(whole, "diffusion", "worst")["on_frontier"] is False


def test_a_setting_without_direct_members_does_not_stand_on_their_frontier() -> None:
    # It would win: nothing leaks, at a higher accuracy.
    unseen = setting("d=0", "diffusion_mixup", [0.9, 0.9, 0.9], {"loss": [0.5] * 3, "loss/indirect": [0.5] * 3})
    whole = table([NONE, APART, unseen])
    assert row(whole, "diffusion", "loss", population="direct")["on_frontier"] is False  # beaten by none alone
    assert row(whole, "diffusion", "loss", population="indirect")["on_frontier"] is False
    higher = replace(APART, seeds=tuple(replace(one, utility=utility(0.85 + 0.01 * one.seed)) for one in APART.seeds))
    whole = table([NONE, higher, unseen])
    assert row(whole, "diffusion", "loss", population="direct")["on_frontier"] is True
    assert row(whole, "diffusion", "loss", population="indirect")["on_frontier"] is False


def test_populations_of_one_setting_change_nothing_in_the_plain_rows_of_the_others() -> None:
    plain_names = {name: metrics for name, metrics in APART.pooled.items() if "/" not in name}
    seeds = tuple(
        replace(one, attacks={name: metrics for name, metrics in one.attacks.items() if "/" not in name})
        for one in APART.seeds
    )
    without = table([NONE, replace(APART, pooled=plain_names, seeds=seeds)])
    kept = [one for one in table([NONE, APART]) if one["population"] == "all" and one["attack"] != "worst"]
    assert kept == [one for one in without if one["attack"] != "worst"]


@pytest.mark.parametrize(
    ("aucs", "message"),
    [
        ({"loss": [0.5], "loss/half": [0.5]}, "loss/half.*no such population"),
        ({"loss": [0.5], "worst/direct": [0.5]}, "rename yours"),
        ({"entropy": [0.5], "loss/direct": [0.5]}, "setting 's': loss/direct without loss"),
        ({"loss/generator": [0.5]}, "setting 's': attacks on the generator alone"),
    ],
)
def test_bad_measures_are_refused(aucs: dict[str, list[float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        table([setting("s", "diffusion_mixup", [0.5], aucs)])


def test_undefended_without_attacks_compares_nothing() -> None:
    whole = table([setting("none", "none", [0.8, 0.8, 0.8], {}), APART])
    worst = row(whole, "diffusion", "worst")
    assert (worst["delta_auc"], worst["verdict"]) == (None, "attack not run on undefended")
    assert worst["on_frontier"] is True


def test_undefended_with_populations_apart_is_refused() -> None:
    with pytest.raises(InputError, match="undefended is trained on all"):
        table([setting("s", "none", [0.5], {"loss": [0.5], "loss/direct": [0.5]})])


# One target: what follows compares on the records instead.


def one_target(
    name: str, defense: str, attacks: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> tuple[SettingResult, dict[str, Scored]]:
    """A setting measured on (positions, scores, member) of each measure."""
    metrics = {
        measure: measure_attack(scores, member, np.random.default_rng(0), draws=50)
        for measure, (_, scores, member) in attacks.items()
    }
    result = SettingResult(name, defense, {}, (SeedResult(0, utility(0.8), metrics),), metrics)
    return result, {measure: Scored(*arrays) for measure, arrays in attacks.items()}


def scores_of(seed: int, shift: float, members: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """200 records in a fixed order, 60 members with scores `shift` higher, of which the first `members` are kept."""
    draw = np.random.default_rng(seed)
    member = np.arange(200) < 60
    scores = np.random.default_rng(9).normal(size=200) + 0.3 * draw.normal(size=200) + shift * member
    kept = np.flatnonzero((np.arange(200) < members) | ~member)
    return kept, scores[kept], member[kept]


def compared(ours: Sequence[tuple[str, float, int]]) -> list[dict[str, object]]:
    """The table of undefended (loss shifted by 2, entropy by 1) and a setting with these (measure, shift, members)."""
    none, their_scores = one_target("none", "none", {"loss": scores_of(1, 2.0), "entropy": scores_of(2, 1.0)})
    attacks = {measure: scores_of(3, shift, members) for measure, shift, members in ours}
    diffusion, our_scores = one_target("d", "diffusion_mixup", attacks)
    paired = paired_on_records(diffusion, none, our_scores, their_scores)
    return table([none, replace(diffusion, paired=paired)])


def test_with_one_target_the_difference_is_on_its_records_and_the_verdict_says_so() -> None:
    cells = row(compared([("loss", 0.5, 60)]), "d", "loss")
    kept, ours, member = scores_of(3, 0.5)
    value, interval = paired_auc_difference(ours, scores_of(1, 2.0)[1], member)
    assert (cells["delta_auc"], cells["delta_auc_low"], cells["delta_auc_high"]) == (value, interval.low, interval.high)
    assert cells["verdict"] == "less leakage than undefended (records only)"
    assert cells["delta_test_accuracy_low"] is None
    assert row(compared([("loss", 2.0, 60)]), "d", "loss")["verdict"] == (
        "not distinguishable from undefended (records only)"
    )
    assert row(compared([("entropy", 2.0, 60), ("loss", 2.0, 60)]), "d", "entropy")["verdict"] == (
        "more leakage than undefended (records only)"
    )
    assert len(kept) == 200


def test_with_one_target_a_population_is_held_against_undefended_on_the_same_records() -> None:
    whole = compared([("loss", 0.5, 60), ("loss/direct", 2.5, 10)])
    cells = row(whole, "d", "loss", population="direct")
    kept, ours, member = scores_of(3, 2.5, 10)
    value, interval = paired_auc_difference(ours, scores_of(1, 2.0)[1][kept], member)
    assert (cells["delta_auc"], cells["delta_auc_low"]) == (value, interval.low)
    assert len(kept) == 150
    # The worst: loss on the direct members against loss, over loss, loss/direct and entropy.
    worst = row(whole, "d", "worst")
    _, wider = paired_auc_difference(ours, scores_of(1, 2.0)[1][kept], member, 0.05 / 3)
    assert (worst["delta_auc"], worst["delta_auc_low"], worst["delta_auc_high"]) == (value, wider.low, wider.high)
    assert wider.width > interval.width


def test_an_attack_that_undefended_lacks_is_not_paired() -> None:
    whole = compared([("loss", 0.5, 60), ("nn", 0.4, 60)])
    cells = row(whole, "d", "nn")
    assert (cells["delta_auc"], cells["verdict"]) == (None, "attack not run on undefended")


def test_the_order_of_records_does_not_matter_and_membership_must_agree() -> None:
    none, theirs = one_target("none", "none", {"loss": scores_of(1, 2.0)})
    other, ours = one_target("m", "mixup", {"loss": scores_of(3, 0.5)})
    found = paired_on_records(other, none, ours, theirs)
    assert set(found) == {"loss", "worst"}
    mixed = np.random.default_rng(4).permutation(200)
    scored = ours["loss"]
    shuffled = {"loss": Scored(scored.positions[mixed], scored.scores[mixed], scored.member[mixed])}
    assert paired_on_records(other, none, shuffled, theirs) == found
    flipped = {"loss": replace(scored, member=~scored.member)}
    with pytest.raises(InputError, match="member of one model only"):
        paired_on_records(other, none, flipped, theirs)


def test_several_seeds_are_compared_over_seeds_whatever_is_paired_on_records() -> None:
    paired = dict.fromkeys(("loss", "worst"), (0.4, Interval(0.3, 0.5)))
    plain = setting("m", "mixup", [0.8, 0.8, 0.8], {"loss": [0.5, 0.5, 0.6]})
    assert table([NONE, replace(plain, paired=paired)]) == table([NONE, plain])
    # A single seed in common leaves no interval over seeds: then it is used.
    alone = replace(plain, seeds=plain.seeds[:1], paired=paired)
    cells = row(table([NONE, alone]), "m", "loss")
    assert (cells["delta_auc"], cells["verdict"]) == (0.4, "more leakage than undefended (records only)")


@pytest.mark.parametrize("verdict", ["less leakage than undefended", "not distinguishable from undefended"])
def test_the_kind_of_a_verdict(verdict: str) -> None:
    assert kind_of(verdict) == kind_of(verdict + " (records only)") == verdict
