"""Targets that were never trained, for the tests of leakage by memorization."""

from collections.abc import Callable
from typing import Any

import numpy as np

from raymia.metrics.caught import TargetAnswers
from raymia.metrics.memorization_bins import SettingAnswers, memorization_rows

Row = dict[str, Any]
# By how much the attack's score of a member of this memorization rises.
Leak = Callable[[np.ndarray], np.ndarray]


def target(scores: list[float], member: list[bool], memorization: list[float], right: list[bool]) -> TargetAnswers:
    return TargetAnswers(np.array(scores), np.array(member), np.array(right), np.array(memorization))


def setting(name: str, *targets: TargetAnswers, **hyperparameters: object) -> SettingAnswers:
    return SettingAnswers(name, name.partition(" ")[0], hyperparameters, "loss", targets)


def rows_of(*settings: SettingAnswers, bins: int = 5, fpr: float = 0.1, seed: int = 0) -> list[Row]:
    return memorization_rows(settings, bins, fpr, np.random.default_rng(seed))


def row(rows: list[Row], name: str, number: int) -> Row:
    [found] = [one for one in rows if one["setting"] == name and one["bin"] == number]
    return found


def study(leak: Leak, *, targets: int = 6, records: int = 400, seed: int = 0) -> list[TargetAnswers]:
    """Targets on which memorized members score higher by `leak`. Equal seeds give equal records, the noise included."""
    made = []
    for number in range(targets):
        rng = np.random.default_rng((seed, number))
        member = rng.permutation(np.arange(records) % 2 == 0)
        memorization = np.maximum(rng.uniform(-0.6, 1, records), 0).round(3)
        right = rng.random(records) < np.where(member, 1, 1 - memorization)
        scores = rng.normal(size=records) + member * leak(memorization)
        made.append(TargetAnswers(scores, member, right, memorization))
    return made
