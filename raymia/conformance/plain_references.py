"""Attacks that compare the target with reference models: each as its definition says, in loops over the records.

No code of `raymia.attacks`. Every score: larger = more likely a member. Answers to several queries are scored each by
itself and averaged, but for RMIA, which averages probabilities first.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma, expit, polygamma

from raymia.conformance.golden import Arrays, Scores
from raymia.conformance.plain import Answer, loss, phi

Values = NDArray[np.float64]
Variance = Callable[[Values, int], float]
"""(a record's values over a group of models, the query) -> the variance to use."""

GAMMA = 2.0
LEAST_VARIANCE = 1e-12  # what any variance counts as at least
LEAST_SHARE = 1e-5  # of the median: what variances count as at least where their logarithms are compared


@dataclass(frozen=True)
class Compared:
    """A measure of the target's answers own[N, Q] and the references' theirs[M, N, Q]; inside[M, N]."""

    own: Values
    theirs: Values
    inside: NDArray[np.bool_]

    def groups(self, record: int, query: int) -> tuple[Values, Values]:
        """The record's values over the IN models and over the OUT models."""
        values, inside = self.theirs[:, record, query], self.inside[:, record]
        return values[inside], values[~inside]

    def mean_over_queries(self, score: Callable[[float, Values, Values, int], float]) -> Scores:
        """score(own value, IN values, OUT values, query), averaged."""
        records, queries = self.own.shape
        found = [
            [score(self.own[record, query], *self.groups(record, query), query) for query in range(queries)]
            for record in range(records)
        ]
        return np.mean(found, axis=1)


def compare(arrays: Arrays, measure: Callable[[Answer, int], float], population: bool = False) -> Compared:
    """Measure every answer to the scored records, or to the population, of which all references are OUT."""
    name = "population_" if population else ""
    own = _measured(arrays["population_logits" if population else "target_logits"], arrays[f"{name}labels"], measure)
    references = arrays[f"{name}reference_logits"]
    theirs = np.stack([_measured(answers, arrays[f"{name}labels"], measure) for answers in references])
    nobody = np.zeros(theirs.shape[:2], dtype=np.bool_)
    return Compared(own, theirs, nobody if population else arrays["reference_member"])


def _measured(logits: NDArray[Any], labels: NDArray[Any], measure: Callable[[Answer, int], float]) -> Values:
    answers = zip(logits.tolist(), labels.tolist(), strict=True)
    return np.array([[measure(answer, label) for answer in of_record] for of_record, label in answers])


def normal_log_density(value: float, mean: float, variance: float) -> float:
    """log N(value; mean, variance)."""
    variance = max(variance, LEAST_VARIANCE)
    return -0.5 * ((value - mean) ** 2 / variance + math.log(2 * math.pi * variance))


def lira_online(compared: Compared, inside: Variance, outside: Variance) -> Scores:
    """log N(phi; median IN, var IN) - log N(phi; median OUT, var OUT) (Carlini et al. 2022)."""
    return compared.mean_over_queries(
        lambda own, ins, outs, query: (
            normal_log_density(own, float(np.median(ins)), inside(ins, query))
            - normal_log_density(own, float(np.median(outs)), outside(outs, query))
        )
    )


def lira_offline(compared: Compared, outside: Variance) -> Scores:
    """(phi - median OUT) / standard deviation OUT."""
    return compared.mean_over_queries(
        lambda own, ins, outs, query: (
            float(own - np.median(outs)) / math.sqrt(max(outside(outs, query), LEAST_VARIANCE))
        )
    )


def lira_offline_two_sided(compared: Compared, outside: Variance) -> Scores:
    """-log N(phi; median OUT, var OUT), as the authors' code has it."""
    return compared.mean_over_queries(
        lambda own, ins, outs, query: -normal_log_density(own, float(np.median(outs)), outside(outs, query))
    )


def per_example(divisor: int) -> Variance:
    """The record's own variance, with the divisor n - `divisor`."""
    return lambda values, query: float(np.var(values, ddof=divisor))


def fixed_residual(compared: Compared, inside: bool, divisor: int) -> Variance:
    """One variance a query: the squared deviations from each record's own mean, over the sum of n - `divisor`."""
    records, queries = compared.own.shape
    found = []
    for query in range(queries):
        groups = [compared.groups(record, query)[0 if inside else 1] for record in range(records)]
        squares = math.fsum(float(((group - group.mean()) ** 2).sum()) for group in groups)
        found.append(squares / sum(len(group) - divisor for group in groups))
    return lambda values, query: found[query]


def fixed_official(compared: Compared, inside: bool) -> Variance:
    """One variance: of all values of all records and queries about one mean."""
    mask = compared.inside if inside else ~compared.inside
    everything = float(np.var(np.concatenate([values[mask].ravel() for values in (compared.theirs,)])))
    return lambda values, query: everything


def shrunk(compared: Compared, inside: bool, divisor: int) -> Variance:
    """(d0 s0² + d s²) / (d0 + d), d = n - 1, with d0 and s0² of each query from how the records' log s² spread (Smyth
    2004, section 6.2). With e = log s² - digamma(d / 2) + log(d / 2): trigamma(d0 / 2) = var e - mean trigamma(d / 2)
    and log s0² = mean e + digamma(d0 / 2) - log(d0 / 2).
    """
    records, queries = compared.own.shape
    prior = []
    for query in range(queries):
        groups = [compared.groups(record, query)[0 if inside else 1] for record in range(records)]
        half = np.array([(len(group) - 1) / 2 for group in groups])
        own = np.array([np.var(group, ddof=divisor) for group in groups])
        least = max(LEAST_SHARE * float(np.median(own)), LEAST_VARIANCE)
        e = np.log(np.maximum(own, least)) - digamma(half) + np.log(half)
        unexplained = float(np.var(e, ddof=1) - np.mean(polygamma(1, half)))
        if unexplained <= 0:
            prior.append((math.inf, math.exp(float(np.mean(e)))))
            continue
        half0 = float(brentq(lambda y, u=unexplained: polygamma(1, y) - u, 1e-4, 1e8, xtol=1e-14, rtol=1e-14))
        prior.append((2 * half0, math.exp(float(np.mean(e)) + float(digamma(half0)) - math.log(half0))))

    def variance(values: Values, query: int) -> float:
        freedom, (freedom0, variance0) = len(values) - 1, prior[query]
        share = freedom / (freedom + freedom0)
        return share * float(np.var(values, ddof=divisor)) + (1 - share) * variance0

    return variance


def attack_r(compared: Compared) -> Scores:
    """The share of the OUT models with at least the target's loss (Ye et al. 2022). compared: phi."""
    return compared.mean_over_queries(lambda own, ins, outs, query: float(np.mean(outs <= own)))


def calibrated_loss(arrays: Arrays, online: bool) -> Scores:
    """(mean loss of IN + mean loss of OUT) / 2 - loss; offline: mean loss of OUT - loss (Sablayrolles et al. 2019)."""
    return compare(arrays, loss).mean_over_queries(
        lambda own, ins, outs, query: float((ins.mean() + outs.mean()) / 2 if online else outs.mean()) - own
    )


def rmia(arrays: Arrays, online: bool, counts: bool, a: float) -> Scores:
    """Zarifzadeh et al. 2024. ratio(x) = P(x|theta) / P(x), P the probability of the true class, mean over queries.

    P(x) = (mean IN + mean OUT) / 2; offline, and for every z of the population, ((1 + a) mean OUT + (1 - a)) / 2.
    counts: the share of z with ratio(x) / ratio(z) >= 2; else ratio(x).
    """
    scored = _ratios(compare(arrays, _probability), None if online else a)
    if not counts:
        return np.array(scored)
    population = _ratios(compare(arrays, _probability, population=True), a)
    return np.array([np.mean([x / z >= GAMMA for z in population]) for x in scored])


def _probability(logits: Answer, label: int) -> float:
    return float(expit(phi(logits, label)))


def _ratios(compared: Compared, a: float | None) -> Sequence[float]:
    found = []
    for record in range(len(compared.own)):
        queries = range(compared.own.shape[1])
        inside, outside = zip(*(compared.groups(record, query) for query in queries), strict=True)
        out = float(np.mean(outside))
        marginal = (float(np.mean(inside)) + out) / 2 if a is None else ((1 + a) * out + (1 - a)) / 2
        found.append(float(np.mean(compared.own[record])) / marginal)
    return found
