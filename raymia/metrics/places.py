"""Where each setting stands among all: the frontiers of an attack, and of the worst one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymia.errors import InputError
from raymia.metrics.comparison import worst_of
from raymia.metrics.frontier import (
    on_frontier,
    resampled_means,
    seed_draws,
    share_on_frontier,
    without_single_seeds,
)
from raymia.metrics.populations import counterpart
from raymia.metrics.results import WORST, SettingResult, all_measures, all_seeds, by_seed

# The evaluations of robust accuracy, the stronger one first: a frontier takes the first that every setting has.
EVALUATIONS = ("aa", "pgd20")

Places = dict[tuple[str, str], "Place"]


@dataclass(frozen=True)
class Place:
    """Whether a setting is on a frontier, and how often when the seeds are resampled (None: one seed)."""

    on: bool
    p: float | None


@dataclass(frozen=True)
class Frontiers:
    """The places of every (setting, measure of members), `worst` included.

    plain: over {test accuracy up, AUC down}. robust: over {test accuracy up, robust accuracy up, AUC down}, the robust
    accuracy being that of `evaluation`; None and no places where none was run on every setting.
    """

    plain: Places
    robust: Places
    evaluation: str | None


def robust_evaluation(results: Sequence[SettingResult]) -> str | None:
    """The evaluation whose robust accuracy settings are compared by: the strongest that all attacked ones have.

    Raises InputError for an evaluation that is not of EVALUATIONS.
    """
    for name in sorted({name for result in results for name in result.robustness} - set(EVALUATIONS)):
        raise InputError(f"robustness {name!r}: no such evaluation; give {' or '.join(EVALUATIONS)}")
    attacked = [one for one in results if one.pooled]
    return next(
        (name for name in EVALUATIONS if attacked and all(one.robust_accuracies(name) for one in attacked)), None
    )


def frontiers(results: Sequence[SettingResult], rng: np.random.Generator) -> Frontiers:
    """The frontiers of all measures of members.

    On a population's frontier the settings without populations stand with their plain measure, since they trained on
    all their members; they get a place on it as well. p is paired: each resample takes the same seeds for all
    settings and both kinds of frontier, and `worst` picks its measure anew in each.
    """
    evaluation = robust_evaluation(results)
    if not all_measures(results):
        return Frontiers({}, {}, evaluation)
    times_RK = seed_draws(len(all_seeds(results)), rng)
    plain = _places(results, None, times_RK)
    return Frontiers(plain, {} if evaluation is None else _places(results, evaluation, times_RK), evaluation)


def _places(results: Sequence[SettingResult], evaluation: str | None, times_RK: NDArray[np.int64]) -> Places:
    # The AUC is the last of the objectives, and the only one to be small.
    maximize = (True, False) if evaluation is None else (True, True, False)
    places = {}
    for name, means_RSD in _resampled(results, evaluation, times_RK).items():
        shares = share_on_frontier(means_RSD, maximize)
        now = {index: found for index, one in enumerate(results) if (found := _now(one, evaluation, name)) is not None}
        on = on_frontier(np.array(list(now.values())), maximize).tolist()
        for index, there in zip(now, on, strict=True):
            p = None if np.isnan(shares[index]) else float(shares[index])
            places[results[index].setting, name] = Place(there, p)
    return places


def _resampled(
    results: Sequence[SettingResult], evaluation: str | None, times_RK: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """By measure, `worst` last: each setting's mean objectives in each resample of the seeds, float64[R, S, D]."""
    seeds = all_seeds(results)
    utilities = [[one.test_accuracies() for one in results]]
    if evaluation is not None:
        utilities.append([one.robust_accuracies(evaluation) for one in results])
    utility_SKD = np.stack([_settings_by_seed(one, seeds) for one in utilities], axis=2)
    found = {}
    for name in all_measures(results):
        auc_SK = _settings_by_seed([_aucs_against(one, name) for one in results], seeds)
        found[name] = _means(np.concatenate([utility_SKD, auc_SK[:, :, None]], axis=2), times_RK)
    worst_RS = np.fmax.reduce([means_RSD[:, :, -1] for means_RSD in found.values()])
    found[WORST] = np.concatenate([_means(utility_SKD, times_RK), worst_RS[:, :, None]], axis=2)
    return found


def _settings_by_seed(values: Sequence[dict[int, float]], seeds: Sequence[int]) -> NDArray[np.float64]:
    return np.stack([by_seed(one, seeds) for one in values])


def _means(objectives_SKD: NDArray[np.float64], times_RK: NDArray[np.int64]) -> NDArray[np.float64]:
    objectives = without_single_seeds(objectives_SKD)
    return np.stack([resampled_means(objectives[:, :, d], times_RK) for d in range(objectives.shape[2])], axis=2)


def _now(result: SettingResult, evaluation: str | None, name: str) -> tuple[float, ...] | None:
    """The objectives as measured; None for a setting that does not stand on this measure's frontier."""
    auc = _auc_now(result, name)
    if auc is None:
        return None
    if evaluation is None:
        return result.utility.test_accuracy, auc
    return result.utility.test_accuracy, result.robustness[evaluation].accuracy, auc


def _auc_now(result: SettingResult, name: str) -> float | None:
    if name == WORST:
        return worst_of(result).auc if result.pooled else None
    own = counterpart(name, result.pooled)
    return None if own is None else result.pooled[own].auc


def _aucs_against(result: SettingResult, name: str) -> dict[int, float]:
    """The AUCs by seed with which the setting stands on this measure's frontier; none where it has no such measure."""
    own = counterpart(name, result.pooled)
    return {} if own is None else result.aucs(own)
