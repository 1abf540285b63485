"""What holds for the frontiers of any study."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raymia.metrics.places import Frontiers, frontiers
from raymia.metrics.results import SettingResult
from tests.metrics.made_results import setting, withstanding

GRID = st.integers(0, 64).map(lambda value: value / 64)


@st.composite
def studies(draw: st.DrawFn) -> list[SettingResult]:
    """Up to six settings of one to three seeds on a coarse grid, so that sums are exact and ties common."""
    count, seeds = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    series = st.lists(GRID, min_size=seeds, max_size=seeds)
    found = []
    for index in range(count):
        aucs = {"loss": draw(series), "entropy": draw(series)}
        one = setting(f"s{index}", "none" if index == 0 else "mixup", draw(series), aucs, {"mixup.alpha": float(index)})
        found.append(withstanding(one, 64, aa=draw(series)))
    return found


def found_in(results: Sequence[SettingResult]) -> Frontiers:
    return frontiers(results, np.random.default_rng(0))


@settings(max_examples=30, deadline=None)
@given(studies(), st.randoms(use_true_random=False))
def test_the_order_of_settings_is_no_matter(results: list[SettingResult], random: object) -> None:
    shuffled = list(results)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert found_in(shuffled) == found_in(results)


@settings(max_examples=60, deadline=None)
@given(studies())
def test_a_beaten_setting_is_never_sure_of_its_place_and_an_unbeaten_one_never_without_hope(
    results: list[SettingResult],
) -> None:
    places = found_in(results).robust
    assert set(places) == {(one.setting, name) for one in results for name in ("loss", "entropy", "worst")}
    for (name, measure), place in places.items():
        mine = next(one for one in results if one.setting == name)
        beaten = any(beats(other, mine, measure) for other in results)
        assert place.on is not beaten
        # Of three seeds and fewer, among a thousand resamples there is one that takes each seed once.
        if place.p is not None:
            assert place.p < 1 if beaten else place.p > 0


def beats(one: SettingResult, other: SettingResult, measure: str) -> bool:
    gains = np.subtract(objectives(one, measure), objectives(other, measure))
    return bool(np.min(gains) >= -1e-12 and np.max(gains) > 1e-12)


def objectives(one: SettingResult, measure: str) -> tuple[float, float, float]:
    """All to be large. The grid keeps unequal means further apart than rounding reaches."""
    aucs = {name: float(np.mean(list(one.aucs(name).values()))) for name in ("loss", "entropy")}
    auc = max(aucs.values()) if measure == "worst" else aucs[measure]
    accuracies = (one.test_accuracies(), one.robust_accuracies("aa"))
    return (*(float(np.mean(list(values.values()))) for values in accuracies), -auc)  # type: ignore[return-value]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 7), st.integers(1, 5))
def test_a_third_objective_throws_no_setting_off_the_frontier(seed: int, count: int, seeds: int) -> None:
    # Of drawn floats no two are equal, in no resample either: equal settings may well be parted by a third objective.
    draw = np.random.default_rng(seed)
    results = []
    for index in range(count):
        aucs = {name: draw.random(seeds).tolist() for name in ("loss", "entropy")}
        one = setting(f"s{index}", "mixup", draw.random(seeds).tolist(), aucs, {"mixup.alpha": float(index)})
        results.append(withstanding(one, 500, pgd20=draw.random(seeds).tolist()))
    found = found_in(results)
    for key, plain in found.plain.items():
        robust = found.robust[key]
        assert robust.on >= plain.on
        assert (robust.p is None) == (plain.p is None) == (seeds == 1)
        if robust.p is not None and plain.p is not None:
            assert robust.p >= plain.p


@settings(max_examples=30, deadline=None)
@given(studies())
def test_equal_robustness_decides_nothing(results: list[SettingResult]) -> None:
    seeds = len(results[0].seeds)
    found = found_in([withstanding(one, 64, pgd20=[0.25, 0.5, 0.125][:seeds]) for one in results])
    assert found.robust == found.plain
    assert found.evaluation == "pgd20"
