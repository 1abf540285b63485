"""Holding a tool's scores on the golden arrays against the expected ones, and naming what went wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from raymia.conformance.expected import WITH_A
from raymia.conformance.golden import Scores

_TOLERANCE = 1e-4  # of 1 + |expected|: what float32 arithmetic may be off by
_SAME_ORDER = 1e-6  # of rank correlation; two records of 60 swapped cost more than 1e-5
_EXPLAINED = 0.8  # of the records with the mistake's scores; surest ones depend on how a tool treats 0 and infinity
_DIGITS = 10  # of a score, beyond which equal records may differ by rounding


class Verdict(StrEnum):
    """EQUAL: the expected numbers. SAME_ORDER: other numbers, but every ROC is the same. The rest is wrong."""

    EQUAL = "equal"
    SAME_ORDER = "same order"
    REVERSED = "reversed"
    DIFFERS = "differs"


@dataclass(frozen=True)
class Comparison:
    """deviation: the largest absolute difference of a score. rank_correlation: Spearman's. cause: what explains it."""

    attack: str
    verdict: Verdict
    deviation: float
    rank_correlation: float
    cause: str | None

    @property
    def passes(self) -> bool:
        return self.verdict in (Verdict.EQUAL, Verdict.SAME_ORDER)


def compare_scores(
    attack: str,
    given: Scores,
    expected: Mapping[str, Scores],
    mistaken: Mapping[str, Mapping[str, Scores]],
    sure_N: NDArray[np.bool_],
) -> Comparison:
    """Compare one attack's scores float64[N]. expected: by name, perhaps with an a (`WITH_A`), of which any will do.
    mistaken: the same with each mistake made, by what it is in words. sure_N: records with posteriors that are 0 or 1
    in float32.
    """
    mine = {name: scores for name, scores in expected.items() if base_name(name) == attack}
    found = [_against(attack, given, name, scores) for name, scores in mine.items()]
    best = max(found, key=lambda one: (one.passes, one.verdict is Verdict.EQUAL, one.rank_correlation))
    worst = min(found, key=lambda one: one.rank_correlation)
    if worst.verdict is Verdict.REVERSED:
        return worst
    if best.verdict is Verdict.EQUAL:
        return best
    cause = _cause(attack, given, expected, mistaken)
    if cause is None and any(_close(given, scores)[~sure_N].all() for scores in mine.values()):
        cause = "right but for the surest records: 1 - p was rounded to 0; sum the other classes instead, in logs"
    return Comparison(attack, best.verdict, best.deviation, best.rank_correlation, cause or best.cause)


def base_name(name: str) -> str:
    """The attack's name, whatever its a."""
    return name.partition(WITH_A)[0]


def _against(attack: str, given: Scores, name: str, expected: Scores) -> Comparison:
    correlation, deviation = rank_correlation(given, expected), float(np.abs(given - expected).max())
    suffix = name.removeprefix(attack).removeprefix("@")
    note = f"with {suffix}" if suffix else None
    if correlation > 1 - _SAME_ORDER:
        verdict = Verdict.EQUAL if _equal(given, expected) else Verdict.SAME_ORDER
        return Comparison(attack, verdict, deviation, correlation, note)
    if correlation < -1 + _SAME_ORDER:
        return Comparison(
            attack, Verdict.REVERSED, deviation, correlation, "larger must mean more likely a member: turn the sign"
        )
    return Comparison(attack, Verdict.DIFFERS, deviation, correlation, None)


def _cause(
    attack: str, given: Scores, expected: Mapping[str, Scores], mistaken: Mapping[str, Mapping[str, Scores]]
) -> str | None:
    """The mistake that gives these scores, or the other attack whose they are."""
    for mistake, made in mistaken.items():
        for name, scores in made.items():
            if base_name(name) != attack or _share_equal(scores, expected[name]) >= _EXPLAINED:
                continue
            if _share_equal(given, scores) >= _EXPLAINED:
                return mistake
            if _share_equal(-given, scores) >= _EXPLAINED:
                return f"{mistake}, and the sign turned"
    others = [base_name(name) for name, scores in expected.items() if _equal(given, scores)]
    return f"these are the scores of {others[0]}" if others else None


def _equal(given: Scores, expected: Scores) -> bool:
    return _share_equal(given, expected) == 1 and rank_correlation(given, expected) > 1 - _SAME_ORDER


def _share_equal(given: Scores, expected: Scores) -> float:
    """The share of the records with equal scores."""
    return float(_close(given, expected).mean())


def _close(given: Scores, expected: Scores) -> NDArray[np.bool_]:
    close: NDArray[np.bool_] = np.abs(given - expected) <= _TOLERANCE * (1 + np.abs(expected))
    return close


def rank_correlation(one: Scores, other: Scores) -> float:
    """Spearman's, ties averaged; 0 where all scores are equal."""
    ranks = [rankdata(_rounded(scores)) for scores in (one, other)]
    if any(np.ptp(its) == 0 for its in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def _rounded(scores: Scores) -> Scores:
    return np.array([float(f"{score:.{_DIGITS}g}") for score in scores])
