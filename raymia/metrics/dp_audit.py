"""Lower bounds on ε from attacks: what a training certainly leaks, beside what an accountant says it may leak at most.

A bound above the accountant's ε is a bug of the training. The relation is adding or removing one record.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from raymia.errors import InputError
from raymia.seeds import generator

_MOST = 100.0
_HALVINGS = 50


@dataclass(frozen=True)
class OneRunAudit:
    """epsilon: the lower bound, at least 0. guesses, correct: how many were made and were right.

    ceiling: the bound that no wrong guess would have given; a larger ε cannot be shown with so many guesses.
    """

    epsilon: float
    guesses: int
    correct: int
    ceiling: float


def one_run_epsilon(
    scores_N: NDArray[np.float64],
    included_N: NDArray[np.bool_],
    guesses_in: int,
    guesses_out: int,
    delta: float,
    confidence: float = 0.95,
) -> OneRunAudit:
    """Lower bound on ε from one training (Steinke, Nasr, Jagielski 2023, arXiv 2305.08846).

    scores_N: one score a canary, larger = more likely in. included_N: which were in. The `guesses_in` highest are
    guessed in, the `guesses_out` lowest out, the others not at all. Valid only if each canary was put in or left out by
    a fair coin of its own (a half of fixed size is not covered), the scores never saw the coins, and both numbers of
    guesses were fixed before anybody saw them: the best of several numbers is no bound at this confidence. Equal scores
    are ordered by a fixed shuffle, so that the order of the arrays tells nothing. Raises InputError for arrays or
    numbers that cannot be.
    """
    _check_canaries(scores_N, included_N)
    _check_levels(delta, confidence)
    canaries, guesses = len(scores_N), guesses_in + guesses_out
    if min(guesses_in, guesses_out) < 0 or not 1 <= guesses <= canaries:
        raise InputError(
            f"guesses_in, guesses_out: {guesses_in} and {guesses_out} of {canaries} canaries cannot be guessed; "
            f"give numbers from 0 up that add to 1 … {canaries}"
        )
    shuffled = generator(0, "dp_audit").permutation(canaries)
    ascending = shuffled[np.argsort(scores_N[shuffled], kind="stable")]
    said_in, said_out = ascending[canaries - guesses_in :], ascending[:guesses_out]
    correct = int(included_N[said_in].sum() + (~included_N[said_out]).sum())
    found, ceiling = (one_run_bound(canaries, guesses, right, delta, 1 - confidence) for right in (correct, guesses))
    return OneRunAudit(found, guesses, correct, ceiling)


def one_run_bound(m: int, r: int, v: int, delta: float, beta: float) -> float:
    """The largest ε that `one_run_p_value` refutes at level β; 0 if none. At most 100, which no audit reaches."""
    return _largest(lambda epsilon: one_run_p_value(m, r, v, epsilon, delta) < beta)


def one_run_p_value(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """How probable v or more right guesses of r are, at most, if the training is (ε, δ)-DP.

    Steinke et al. 2023, section 5: `P[Bin(r, q) ≥ v] + 2mδ max_{i=1..v} P[v-i ≤ Bin(r, q) < v] / i` with
    `q = e^ε / (1 + e^ε)`; m: canaries.
    """
    if v == 0:
        return 1.0
    q = special.expit(epsilon)
    below = special.bdtr(np.arange(-1, v, dtype=np.float64).clip(0), r, q)
    below[0] = 0.0  # P[Bin < 0]; below[k] is P[Bin < k]
    i = np.arange(1, v + 1)
    alpha = ((below[v] - below[v - i]) / i).max()
    # The upper tail by itself: 1 - below[v] would lose a small one.
    tail = special.bdtrc(v - 1, r, q)
    return float(min(tail + 2 * m * delta * alpha, 1.0))


@dataclass(frozen=True)
class AuditedRun:
    """One training that was audited for one record. run: what tells it from every other, as its model's key.

    score: of that record, larger = more likely in. included: whether it was in.
    """

    run: str
    score: float
    included: bool


def many_runs_epsilon(runs: Sequence[AuditedRun], threshold: float, delta: float, confidence: float = 0.95) -> float:
    """Lower bound on ε from many trainings, one score of each (Jagielski, Ullman, Oprea 2020, arXiv 2006.07709).

    A score of `threshold` or more is a guess of in. Under (ε, δ)-DP `TPR ≤ e^ε FPR + δ` and `TNR ≤ e^ε FNR + δ`; the
    rates enter by one-sided Clopper-Pearson limits, each at half of 1 - confidence. Valid only for independent
    trainings, in each of which the record is in or out whatever the others hold, and a threshold that was fixed on
    other runs. Scores of several records of one model are dependent and are refused: that is `one_run_epsilon`'s work.
    Raises InputError for a training that comes twice, and without runs of either kind.
    """
    _check_levels(delta, confidence)
    names = [one.run for one in runs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"runs: training {twice!r} comes more than once, and scores of one model are dependent; "
            "give one score a training, or use one_run_epsilon"
        )
    scores = np.array([one.score for one in runs], dtype=np.float64)
    included = np.array([one.included for one in runs], dtype=np.bool_)
    if not np.isfinite(scores).all() or included.all() or not included.any():
        raise InputError("runs: finite scores of trainings with the record and without it are needed; give both")
    guessed = scores >= threshold
    half = (1 - confidence) / 2
    tpr = clopper_pearson_low(int(guessed[included].sum()), int(included.sum()), half)
    fpr = clopper_pearson_high(int(guessed[~included].sum()), int((~included).sum()), half)
    # TNR's lower limit is one minus FPR's upper, FNR's upper one minus TPR's lower: two events serve both bounds.
    return max(_log_ratio(tpr - delta, fpr), _log_ratio(1 - fpr - delta, 1 - tpr), 0.0)


def clopper_pearson_low(successes: int, trials: int, beta: float) -> float:
    """A lower limit of a proportion that is too high with probability at most β (Clopper & Pearson 1934)."""
    return 0.0 if successes == 0 else float(special.betaincinv(successes, trials - successes + 1, beta))


def clopper_pearson_high(successes: int, trials: int, beta: float) -> float:
    """An upper limit of a proportion that is too low with probability at most β."""
    return 1 - clopper_pearson_low(trials - successes, trials, beta)


def _log_ratio(above: float, below: float) -> float:
    return math.log(above / below) if above > 0 else -math.inf


def _largest(refuted: Callable[[float], bool]) -> float:
    """The largest refuted ε in [0, 100], found from below: what is returned was refuted, or is 0."""
    low, high = 0.0, _MOST
    if refuted(high):
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _check_canaries(scores_N: NDArray[np.float64], included_N: NDArray[np.bool_]) -> None:
    if scores_N.ndim != 1 or scores_N.shape != included_N.shape or not np.isfinite(scores_N).all():
        raise InputError(
            f"scores, included: one finite score and one truth value a canary are needed, not shapes "
            f"{scores_N.shape} and {included_N.shape} or scores that are not finite"
        )
    if included_N.dtype != np.bool_:
        raise InputError(f"included: must be true or false for each canary, got {included_N.dtype}; compare it with 1")


def _check_levels(delta: float, confidence: float) -> None:
    if not 0 <= delta < 1:
        raise InputError(f"delta: must be from 0 to below 1, got {delta}")
    if not 0 < confidence < 1:
        raise InputError(f"confidence: must be between 0 and 1, got {confidence}; 0.95 is usual")
