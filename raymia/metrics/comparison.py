"""A setting against the undefended model, and against all others: paired differences, verdicts, the frontier."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymia.metrics.delong import widen_auc_interval
from raymia.metrics.frontier import (
    WorstAttack,
    on_frontier,
    resampled_means,
    seed_draws,
    share_on_frontier,
    without_single_seeds,
    worst_attack,
)
from raymia.metrics.intervals import ALPHA, Interval, paired_t_interval
from raymia.metrics.results import WORST, SettingResult, all_attacks, all_seeds, by_seed

LESS = "less leakage than undefended"
MORE = "more leakage than undefended"
SAME = "not distinguishable from undefended"
ONE_SEED = "one seed: no paired interval"
NO_COMMON_SEED = "no seed in common with undefended"
NO_REFERENCE = "no undefended setting"
NOT_RUN = "attack not run on undefended"
IS_UNDEFENDED = "undefended"

# The objectives of a frontier, in the order of its arrays: test accuracy up, AUC down.
MAXIMIZE = (True, False)


@dataclass(frozen=True)
class Delta:
    """The mean paired difference to undefended over the common seeds; None without one, no interval below two."""

    value: float | None = None
    interval: Interval | None = None
    seeds: int = 0


@dataclass(frozen=True)
class Place:
    """Whether a setting is on an attack's frontier, and how often when the seeds are resampled (None: one seed)."""

    on: bool
    p: float | None


def paired_delta(ours: dict[int, float], theirs: dict[int, float], alpha: float = ALPHA) -> Delta:
    """Ours - theirs, by seed, with the paired Student t interval over the seeds that both have."""
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        return Delta()
    mine, other = [ours[seed] for seed in common], [theirs[seed] for seed in common]
    value = float(np.mean(np.subtract(mine, other)))
    return Delta(value, paired_t_interval(mine, other, alpha), len(common))


def auc_delta(result: SettingResult, undefended: SettingResult | None, attack: str) -> tuple[Delta, str]:
    """The difference of an attack's AUC to undefended, and the verdict in words.

    For `worst` each setting's own worst attack enters, and the interval is at level alpha / k (Bonferroni over the k
    attacks that either could have been picked from).
    """
    if result.undefended:
        return Delta(), IS_UNDEFENDED
    if undefended is None:
        return Delta(), NO_REFERENCE
    ours, theirs, alpha = attack, attack, ALPHA
    if attack == WORST:
        alpha /= len(result.pooled.keys() | undefended.pooled.keys())
        ours, theirs = worst_of(result).attack, worst_of(undefended).attack
    if theirs not in undefended.pooled:
        return Delta(), NOT_RUN
    delta = paired_delta(result.aucs(ours), undefended.aucs(theirs), alpha)
    return delta, _verdict(delta)


def worst_of(result: SettingResult) -> WorstAttack:
    """The setting's worst attack; with one seed (or equal AUCs) its interval is that of the records, widened to
    hold for all attacks at once.
    """
    level = ALPHA / len(result.pooled)
    fallback = {
        attack: widen_auc_interval(pooled.auc, Interval(pooled.auc_low, pooled.auc_high), level)
        for attack, pooled in result.pooled.items()
    }
    aucs = {attack: list(result.aucs(attack).values()) for attack in result.pooled}
    return worst_attack(aucs, ALPHA, fallback)


def frontier_places(results: Sequence[SettingResult], rng: np.random.Generator) -> dict[tuple[str, str], Place]:
    """The place of every (setting, attack), `worst` included, over {test accuracy up, AUC down}.

    p is paired: each resample takes the same seeds for all settings, and `worst` picks its attack anew in each.
    """
    attacks = all_attacks(results)
    if not attacks:
        return {}
    seeds = all_seeds(results)
    times_RK = seed_draws(len(seeds), rng)
    accuracy_SK = np.stack([by_seed(one.test_accuracies(), seeds) for one in results])
    means_by_attack = {}
    for attack in attacks:
        auc_SK = np.stack([by_seed(one.aucs(attack), seeds) for one in results])
        objectives_SKD = without_single_seeds(np.stack([accuracy_SK, auc_SK], axis=2))
        means_by_attack[attack] = np.stack([resampled_means(objectives_SKD[:, :, d], times_RK) for d in (0, 1)], axis=2)
    accuracy_RS = resampled_means(without_single_seeds(accuracy_SK[:, :, None])[:, :, 0], times_RK)
    worst_RS = np.fmax.reduce([means_RSD[:, :, 1] for means_RSD in means_by_attack.values()])
    means_by_attack[WORST] = np.stack([accuracy_RS, worst_RS], axis=2)
    places = {}
    for attack, means_RSD in means_by_attack.items():
        shares = share_on_frontier(means_RSD, MAXIMIZE)
        for index, on in _on_now(results, attack).items():
            p = None if np.isnan(shares[index]) else float(shares[index])
            places[results[index].setting, attack] = Place(on, p)
    return places


def _on_now(results: Sequence[SettingResult], attack: str) -> dict[int, bool]:
    """By index, whether a setting that has this attack is on its frontier as measured."""
    there = [index for index, one in enumerate(results) if one.pooled and attack in {WORST, *one.pooled}]
    objectives_SD: NDArray[np.float64] = np.array(
        [
            (
                results[index].utility.test_accuracy,
                worst_of(results[index]).auc if attack == WORST else results[index].pooled[attack].auc,
            )
            for index in there
        ]
    )
    return dict(zip(there, on_frontier(objectives_SD, MAXIMIZE).tolist(), strict=True))


def _verdict(delta: Delta) -> str:
    if delta.seeds == 0:
        return NO_COMMON_SEED
    if delta.interval is None:
        return ONE_SEED
    if delta.interval.high < 0:
        return LESS
    return MORE if delta.interval.low > 0 else SAME
