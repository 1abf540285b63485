"""Lower bounds on ε: known answers, what makes a bound invalid, and how often one lies."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from raymia.errors import InputError
from raymia.metrics.dp_audit import (
    AuditedRun,
    clopper_pearson_high,
    clopper_pearson_low,
    many_runs_epsilon,
    one_run_bound,
    one_run_epsilon,
    one_run_p_value,
)


@pytest.mark.parametrize(
    ("m", "r", "v", "delta", "epsilon"),
    [
        (1000, 100, 75, 1e-4, 0.67298),
        (1000, 1000, 600, 1e-5, 0.29723),
        (1000, 200, 190, 1e-5, 2.39362),
        (5000, 500, 480, 1e-5, 2.78302),
    ],
)
def test_known_bounds(m: int, r: int, v: int, delta: float, epsilon: float) -> None:
    assert one_run_bound(m, r, v, delta, 0.05) == pytest.approx(epsilon, abs=1e-5)


def p_value_term_by_term(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """The formula with every probability from scipy's binomial."""
    q = math.exp(epsilon) / (1 + math.exp(epsilon))
    between = [sum(stats.binom.pmf(k, r, q) for k in range(v - i, v)) / i for i in range(1, v + 1)]
    tail = stats.binom.sf(v - 1, r, q)
    return float(min(tail + 2 * m * delta * max(between, default=0.0), 1.0))


@given(st.integers(1, 25), st.data(), st.floats(0, 6), st.sampled_from([0.0, 1e-6, 1e-3, 0.1]))
def test_the_p_value_is_the_formula(r: int, data: st.DataObject, epsilon: float, delta: float) -> None:
    v = data.draw(st.integers(0, r))
    m = r + data.draw(st.integers(0, 50))
    assert one_run_p_value(m, r, v, epsilon, delta) == pytest.approx(
        p_value_term_by_term(m, r, v, epsilon, delta), rel=1e-9, abs=1e-12
    )


@given(st.integers(1, 300), st.floats(0.5, 0.999))
def test_perfect_guesses_reach_the_ceiling_and_no_more(r: int, confidence: float) -> None:
    odds = (1 - confidence) ** (-1 / r) - 1
    ceiling = max(-math.log(odds), 0.0)
    assert one_run_bound(r, r, r, 0.0, 1 - confidence) == pytest.approx(ceiling, abs=1e-6)


def test_the_ceiling_of_200_guesses() -> None:
    audit = one_run_epsilon(np.arange(200.0), np.arange(200) >= 100, 100, 100, 0.0)
    assert (audit.guesses, audit.correct) == (200, 200)
    assert audit.epsilon == audit.ceiling == pytest.approx(4.1936, abs=1e-4)


@given(st.integers(1, 60), st.data())
def test_more_right_guesses_a_smaller_delta_and_less_confidence_never_lower_the_bound(
    r: int, data: st.DataObject
) -> None:
    v = data.draw(st.integers(0, r - 1))
    bound = one_run_bound(100, r, v, 1e-4, 0.05)
    assert one_run_bound(100, r, v + 1, 1e-4, 0.05) >= bound
    assert one_run_bound(100, r, v, 1e-5, 0.05) >= bound
    assert one_run_bound(100, r, v, 1e-4, 0.1) >= bound
    assert bound >= 0
    if bound:
        assert one_run_p_value(100, r, v, bound, 1e-4) < 0.05


def test_the_highest_are_guessed_in_the_lowest_out_and_the_rest_left() -> None:
    scores = np.array([5.0, 1.0, 4.0, 0.0, 2.0, 3.0])
    included = np.array([True, False, False, True, True, True])
    audits = {
        (2, 0): 1,  # 5 is in, 4 is out
        (0, 2): 1,  # 0 is in, 1 is out
        (1, 2): 2,
        (3, 3): 3,
        (1, 0): 1,
    }
    for (guesses_in, guesses_out), correct in audits.items():
        audit = one_run_epsilon(scores, included, guesses_in, guesses_out, 0.0)
        assert (audit.guesses, audit.correct) == (guesses_in + guesses_out, correct)
    assert one_run_epsilon(-scores, included, 2, 0, 0.0).correct == 1
    assert one_run_epsilon(scores, ~included, 3, 3, 0.0).correct == 3


def test_the_order_of_canaries_with_equal_scores_says_nothing() -> None:
    """Members often come first in an array: ties must not give them away."""
    included = np.arange(2000) < 1000
    for order in (included, ~included):
        audit = one_run_epsilon(np.zeros(2000), order, 200, 200, 0.0)
        assert 160 <= audit.correct <= 240


def randomized_response(epsilon: float, included: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float64]:
    """Each canary's bit, told truly with the largest probability that ε allows; every guess is independent."""
    true = rng.random(len(included)) < math.exp(epsilon) / (1 + math.exp(epsilon))
    return np.where(true, included, ~included) + rng.random(len(included)) / 2


def test_a_bound_on_a_mechanism_of_known_epsilon_holds_as_often_as_it_says_and_is_near() -> None:
    rng = np.random.default_rng(0)
    bounds = []
    for _ in range(400):
        included = rng.random(500) < 0.5
        bounds.append(one_run_epsilon(randomized_response(1.0, included, rng), included, 100, 100, 0.0).epsilon)
    wrong = float(np.mean(np.array(bounds) > 1.0))
    assert 0.005 < wrong < 0.08
    assert np.median(bounds) > 0.65


def test_the_best_of_several_numbers_of_guesses_is_no_bound() -> None:
    """Why they are fixed before: on pure noise, choosing them afterwards shows a leak far too often."""
    rng = np.random.default_rng(1)
    fixed, chosen = [], []
    for _ in range(200):
        included = rng.random(200) < 0.5
        found = [one_run_epsilon(rng.random(200), included, k, k, 0.0).epsilon for k in (5, 10, 20, 40, 60, 80)]
        fixed.append(found[3] > 0)
        chosen.append(max(found) > 0)
    assert np.mean(fixed) <= 0.09
    assert np.mean(chosen) > 1.5 * np.mean(fixed)


GOOD = (np.arange(6.0), np.array([True, False] * 3))


@pytest.mark.parametrize(
    ("scores", "included", "guesses", "why"),
    [
        (np.arange(5.0), GOOD[1], (1, 1), "one finite score and one truth value a canary"),
        (np.zeros((6, 1)), np.zeros((6, 1), dtype=bool), (1, 1), "one finite score and one truth value"),
        (np.array([0, 1, 2, 3, 4, np.nan]), GOOD[1], (1, 1), "not finite"),
        (GOOD[0], GOOD[1].astype(int), (1, 1), "included: must be true or false"),
        (*GOOD, (0, 0), "guesses_in, guesses_out: 0 and 0 of 6"),
        (*GOOD, (4, 3), "4 and 3 of 6 canaries cannot be guessed"),
        (*GOOD, (-1, 3), "-1 and 3"),
    ],
)
def test_canaries_that_cannot_be_are_refused(
    scores: NDArray[np.float64], included: NDArray[np.bool_], guesses: tuple[int, int], why: str
) -> None:
    with pytest.raises(InputError, match=why) as caught:
        one_run_epsilon(scores, included, *guesses, 1e-5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("delta", "confidence", "why"), [(1.0, 0.95, "delta"), (-0.1, 0.95, "delta"), (0, 95, "confid")]
)
def test_levels_that_cannot_be_are_refused(delta: float, confidence: float, why: str) -> None:
    with pytest.raises(InputError, match=why):
        one_run_epsilon(*GOOD, 1, 1, delta, confidence)
    with pytest.raises(InputError, match=why):
        many_runs_epsilon(runs_of(3, 3, 0, 3), 0.5, delta, confidence)


def runs_of(hits: int, members: int, alarms: int, others: int) -> list[AuditedRun]:
    """Runs of which `hits` of `members` and `alarms` of `others` score 1, the rest 0."""
    inside = [AuditedRun(f"in {number}", float(number < hits), True) for number in range(members)]
    return inside + [AuditedRun(f"out {number}", float(number < alarms), False) for number in range(others)]


@given(st.integers(1, 60), st.data(), st.floats(0.001, 0.5))
def test_clopper_pearson_is_where_the_tail_reaches_beta(trials: int, data: st.DataObject, beta: float) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = clopper_pearson_low(successes, trials, beta), clopper_pearson_high(successes, trials, beta)
    assert low <= successes / trials <= high
    if successes:
        assert stats.binom.sf(successes - 1, trials, low) == pytest.approx(beta, rel=1e-6)
    if successes < trials:
        assert stats.binom.cdf(successes, trials, high) == pytest.approx(beta, rel=1e-6)
    assert (low == 0) == (successes == 0)


def test_a_bound_from_many_runs_by_hand() -> None:
    # 50 of 50 found, none of 50 falsely: both limits are at 0.025^(1/50) and its complement.
    limit = 0.025 ** (1 / 50)
    expected = math.log((limit - 1e-3) / (1 - limit))
    assert many_runs_epsilon(runs_of(50, 50, 0, 50), 0.5, 1e-3) == pytest.approx(expected)
    # Many of both called in: only the true negatives say something.
    tpr, fpr = clopper_pearson_low(50, 50, 0.025), clopper_pearson_high(40, 50, 0.025)
    expected = math.log((1 - fpr) / (1 - tpr))
    assert expected > math.log(tpr / fpr) > 0
    assert many_runs_epsilon(runs_of(50, 50, 40, 50), 0.5, 0.0) == pytest.approx(expected)


def test_the_threshold_itself_is_a_guess_of_in() -> None:
    assert many_runs_epsilon(runs_of(50, 50, 0, 50), 1.0, 0.0) > 2
    assert many_runs_epsilon(runs_of(50, 50, 0, 50), 1.1, 0.0) == 0
    assert many_runs_epsilon(runs_of(0, 50, 50, 50), 0.5, 0.0) == 0


def test_many_runs_of_a_mechanism_of_known_epsilon_lie_seldom() -> None:
    rng = np.random.default_rng(2)
    bounds = []
    for _ in range(300):
        included = np.arange(400) < 200
        scores = randomized_response(1.0, included, rng)
        runs = [AuditedRun(str(n), s, bool(i)) for n, (s, i) in enumerate(zip(scores, included, strict=True))]
        bounds.append(many_runs_epsilon(runs, 0.9, 0.0))
    assert np.mean(np.array(bounds) > 1.0) <= 0.05
    assert np.median(bounds) > 0.5


def test_scores_of_one_model_are_refused() -> None:
    one_model = [AuditedRun("model", score, included) for score, included in ((1.0, True), (0.0, False))]
    with pytest.raises(InputError, match=r"training 'model' comes more than once.*use one_run_epsilon"):
        many_runs_epsilon(one_model, 0.5, 0.0)


@pytest.mark.parametrize(
    "runs", [[], runs_of(3, 3, 0, 0), runs_of(0, 0, 0, 3), [*runs_of(1, 1, 0, 1), AuditedRun("nan", math.nan, True)]]
)
def test_runs_of_one_kind_or_without_a_score_are_refused(runs: list[AuditedRun]) -> None:
    with pytest.raises(InputError, match="trainings with the record and without it are needed"):
        many_runs_epsilon(runs, 0.5, 0.0)
