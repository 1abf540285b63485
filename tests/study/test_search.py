"""Searches propose the same settings whatever order their trials end in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.search import Searcher

from raymia.space import UNDEFENDED, Setting, Space
from raymia.space_files import parse_space
from raymia.study.search import ListProposer, OptunaProposer, Outcome, proposer
from raymia.study.searcher import SettingSearcher

RANGES: dict[str, Any] = {
    "search": {"method": "optuna", "samples": 10, "batch": 4},
    "settings": [
        {"mixup": {"alpha": {"low": 0.05, "high": 0.9}}},
        {"dropout": {"rate": {"low": 0.1, "high": 0.5}}, "label_smoothing": {"epsilon": [0.1, 0.2]}},
    ],
}


def space(content: dict[str, Any]) -> Space:
    return parse_space(content, Path("a.yaml"))


def outcome_of(setting: Setting) -> Outcome:
    """A made-up trade-off, the same whenever it is asked for."""
    strength = sum(value for value in setting.hyperparameters.values() if isinstance(value, float))
    return {"test_accuracy": 0.9 - 0.3 * strength**2, "worst_auc": 0.8 - 0.25 * strength}


def searched(
    content: dict[str, Any], order: np.random.Generator, in_flight: int, failing: frozenset[int] = frozenset()
) -> list[Setting]:
    """The settings tried, with trials that end in a random order, as Tune drives the searcher."""
    tried: list[Setting] = []
    searcher = SettingSearcher(proposer(space(content), 0), lambda number, setting: tried.append(setting))
    running: list[tuple[str, int]] = []
    count, ended = 0, False
    while True:
        while len(running) < in_flight and not ended:
            suggested = searcher.suggest(f"trial-{count}")
            if suggested is None:
                break
            if suggested == Searcher.FINISHED:
                ended = True
                break
            assert isinstance(suggested, dict)
            assert 0 <= suggested["number"] < len(tried), "ordered before it starts"
            running.append((f"trial-{count}", suggested["number"]))
            count += 1
        if not running:
            assert ended, "nothing runs and nothing is suggested: the search hangs"
            assert count == len(tried), "each setting is tried once"
            return tried
        trial, number = running.pop(int(order.integers(len(running))))
        if number in failing:
            searcher.on_trial_complete(trial, None, error=True)
        else:
            searcher.on_trial_complete(trial, dict(outcome_of(tried[number])))


@given(seed=st.integers(0, 2**16), in_flight=st.integers(1, 6), failing=st.frozensets(st.integers(1, 10), max_size=3))
def test_a_search_repeats_in_whatever_order_its_trials_end(seed: int, in_flight: int, failing: frozenset[int]) -> None:
    alone = searched(RANGES, np.random.default_rng(0), 1, failing)
    assert searched(RANGES, np.random.default_rng(seed), in_flight, failing) == alone


def test_optuna_learns_from_what_it_is_told() -> None:
    content = RANGES | {"search": {"method": "optuna", "samples": 40, "batch": 4}}

    def settings(sign: float) -> list[Setting]:
        source = OptunaProposer(space(content), 0)
        found: list[Setting] = []
        while batch := source.propose():
            found += batch
            source.tell([{name: sign * value for name, value in outcome_of(setting).items()} for setting in batch])
        return found

    one, other = settings(1.0), settings(-1.0)
    assert len(one) == len(other) == 41
    assert one[0] == other[0] == UNDEFENDED
    assert one[:9] == other[:9], "nothing is learnt before the first batches are told"
    assert one != other


def test_a_setting_proposed_again_is_not_tried_again() -> None:
    content = {
        "search": {"method": "optuna", "samples": 12, "batch": 4},
        "settings": [{"mixup": {"alpha": [0.1, 0.2]}}],
    }
    tried = searched(content, np.random.default_rng(0), 3)
    assert [setting.label for setting in tried[:1]] == ["none"]
    assert {setting.label for setting in tried} == {"none", "mixup alpha=0.1", "mixup alpha=0.2"}
    assert len(tried) == 3


def test_a_grid_is_its_list_undefended_first() -> None:
    content = {"settings": [{"mixup": {"alpha": [0.3, 0.1]}}, {"none": {}}]}
    tried = searched(content, np.random.default_rng(3), 4)
    assert [setting.label for setting in tried] == ["none", "mixup alpha=0.3", "mixup alpha=0.1"]
    assert isinstance(proposer(space(content), 0), ListProposer)


def test_a_random_search_is_drawn_from_the_studys_seed() -> None:
    content = RANGES | {"search": {"method": "random", "samples": 8}}
    first = [setting.label for setting in space(content).settings(0)]
    assert first == [setting.label for setting in space(content).settings(0)]
    assert first != [setting.label for setting in space(content).settings(1)]
    assert len(first) == 9
    alphas = [s.hyperparameters["mixup.alpha"] for s in space(content).settings(0) if s.name == "mixup"]
    assert all(0.05 <= alpha <= 0.9 for alpha in alphas)


@pytest.mark.parametrize("batch", [1, 3, 20])
def test_the_number_of_samples_is_kept_whatever_the_batch(batch: int) -> None:
    source = OptunaProposer(space(RANGES | {"search": {"method": "optuna", "samples": 10, "batch": batch}}), 0)
    count = 0
    while settings := source.propose():
        assert len(settings) <= max(batch, 1)
        source.tell([outcome_of(setting) for setting in settings])
        count += len(settings)
    assert count == source.total == 11


def test_each_objective_is_searched_in_its_own_direction() -> None:
    """Of two settings the one that is better in everything is the study's only best, whatever the objectives."""
    names = ("worst_tpr", "robust_accuracy_aa", "test_accuracy", "robust_accuracy_pgd20", "worst_auc")
    raised = {"robust_accuracy_aa", "test_accuracy", "robust_accuracy_pgd20"}
    search = {"method": "optuna", "samples": 8, "batch": 8, "objectives": list(names)}
    source = OptunaProposer(space(RANGES | {"search": search}), 0)
    source.tell([dict.fromkeys(names, 0.5) for _ in source.propose()])
    settings = source.propose()
    best = 3
    outcomes = [dict.fromkeys(names, 0.5) | {"further": 1.0} for _ in settings]
    outcomes[best] = {name: 0.6 if name in raised else 0.4 for name in names}
    source.tell(outcomes)
    assert [trial.number for trial in source._study.best_trials] == [best]
