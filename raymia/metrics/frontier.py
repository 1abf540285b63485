"""Which settings no other setting beats, how sure that is, and the worst attack of a setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raymia.errors import InputError
from raymia.metrics.intervals import ALPHA, Interval, t_interval

DRAWS = 1000
_DIGITS = 12


def on_frontier(objectives_SD: ArrayLike, maximize_D: ArrayLike) -> NDArray[np.bool_]:
    """Which of S settings are not dominated on D objectives: bool[S].

    A setting dominates another when it is at least as good on every objective and better on one; equal settings do
    not dominate each other. maximize_D: bool[D], whether larger is better. Raises InputError for NaN.
    """
    objectives = np.asarray(objectives_SD, dtype=np.float64)
    maximize = np.asarray(maximize_D, dtype=np.bool_)
    if objectives.ndim != 2 or maximize.shape != objectives.shape[1:]:
        raise InputError(f"objectives {objectives.shape}, maximize {maximize.shape}: give [settings, D] and [D]")
    if np.isnan(objectives).any():
        raise InputError("objectives: NaN in a setting; leave out what was not measured")
    gains = _gains(objectives, maximize)
    dominated = [((gains >= mine).all(axis=1) & (gains > mine).any(axis=1)).any() for mine in gains]
    return ~np.array(dominated, dtype=np.bool_)


def _gains(objectives: NDArray[np.float64], maximize_D: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Larger is better; means that are equal on paper are equal."""
    return np.asarray(np.round(np.where(maximize_D, objectives, -objectives), _DIGITS), dtype=np.float64)


def seed_draws(seeds: int, rng: np.random.Generator, draws: int = DRAWS) -> NDArray[np.int64]:
    """How often each seed is taken in each resample of the seeds: int64[draws, seeds], rows sum to `seeds`."""
    return rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)


def resampled_means(values_SK: ArrayLike, times_RK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each setting's mean in each resample of the seeds: float64[R, S].

    values_SK: NaN where a setting lacks a seed; the mean is of those it has, NaN when none was drawn.
    """
    values = np.asarray(values_SK, dtype=np.float64)
    present = ~np.isnan(values)
    totals = times_RK @ np.where(present, values, 0).T
    counts = times_RK @ present.T.astype(np.int64)
    return np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts > 0)


def share_on_frontier(means_RSD: NDArray[np.float64], maximize_D: ArrayLike) -> NDArray[np.float64]:
    """The share of resamples in which a setting is on the frontier: float64[S].

    A setting with NaN in a resample takes no part in it; NaN for one that takes part in none.
    """
    gains_RSD = _gains(means_RSD, np.asarray(maximize_D, dtype=np.bool_))
    there_RS = ~np.asarray(np.isnan(gains_RSD).any(axis=2))
    parts = there_RS.sum(axis=0).astype(np.float64)
    wins = np.zeros(means_RSD.shape[1])
    for setting in range(len(wins)):
        mine = gains_RSD[:, setting : setting + 1]
        # NaN compares as false, so an absent setting dominates nothing.
        dominating_RS = np.all(gains_RSD >= mine, axis=2) & np.any(gains_RSD > mine, axis=2)
        wins[setting] = np.sum(~np.any(dominating_RS, axis=1) & there_RS[:, setting])
    return np.divide(wins, parts, out=np.full(len(wins), np.nan), where=parts > 0)


def p_on_frontier(
    objectives_SKD: ArrayLike, maximize_D: ArrayLike, rng: np.random.Generator, draws: int = DRAWS
) -> NDArray[np.float64]:
    """How often a setting stays on the frontier when the seeds are resampled, the same seeds for all settings.

    objectives_SKD: float[S settings, K seeds, D], NaN where a setting lacks a seed. Deterministic by `rng`. NaN for
    settings with fewer than two seeds, whose spread is unknown; they do not compete.
    """
    objectives = without_single_seeds(objectives_SKD)
    times_RK = seed_draws(objectives.shape[1], rng, draws)
    means = [resampled_means(objectives[:, :, d], times_RK) for d in range(objectives.shape[2])]
    return share_on_frontier(np.stack(means, axis=2), maximize_D)


def without_single_seeds(objectives_SKD: ArrayLike) -> NDArray[np.float64]:
    """A copy in which a seed counts only where all objectives are known, and a setting only with two such seeds."""
    objectives = np.array(objectives_SKD, dtype=np.float64)
    if objectives.ndim != 3:
        raise InputError(f"objectives {objectives.shape}: give [settings, seeds, D]")
    objectives[np.isnan(objectives).any(axis=2)] = np.nan
    known = (~np.isnan(objectives[:, :, 0])).sum(axis=1)
    objectives[known < 2] = np.nan
    return objectives


@dataclass(frozen=True)
class WorstAttack:
    """The attack with the largest mean AUC, by its measure name, and an interval of the largest true AUC.

    interval: None for one seed without a fallback.
    """

    attack: str
    auc: float
    interval: Interval | None


def worst_attack(
    auc_by_attack: Mapping[str, Sequence[float]],
    alpha: float = ALPHA,
    fallback: Mapping[str, Interval] | None = None,
) -> WorstAttack:
    """The worst of k attacks on a setting, from each attack's AUCs over seeds; another population is another attack.

    Student t intervals at level alpha / k hold for all k attacks at once (Bonferroni); then the largest true AUC
    lies between the largest lower and the largest upper end. Of equal attacks the first is taken.
    fallback: each attack's interval at level alpha / k for where t has none (one seed) or no width (equal AUCs).
    """
    if not auc_by_attack or not all(len(aucs) for aucs in auc_by_attack.values()):
        raise InputError("attacks: none measured; give each attack the AUC of one seed at least")
    means = {attack: float(np.mean(aucs)) for attack, aucs in auc_by_attack.items()}
    attack = max(means, key=lambda name: means[name])
    intervals = []
    for name, aucs in auc_by_attack.items():
        interval = t_interval(aucs, alpha / len(auc_by_attack))
        if fallback is not None and (interval is None or interval.width <= 0):
            interval = fallback[name]
        intervals.append(interval)
    return WorstAttack(attack, means[attack], _largest_of(intervals))


def _largest_of(intervals: Sequence[Interval | None]) -> Interval | None:
    known = [interval for interval in intervals if interval is not None]
    if len(known) < len(intervals):
        return None
    return Interval(max(one.low for one in known), max(one.high for one in known)).clipped(0, 1)
