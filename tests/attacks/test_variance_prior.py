import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import polygamma

from raymia.attacks.group_statistics import Floats, GroupMoments, group_moments
from raymia.attacks.variance_prior import (
    OWN_VARIANCES,
    VariancePrior,
    inverse_trigamma,
    moderated,
    pooled_residuals,
    spread_of_all,
)


def drawn(deviation_N: Floats, models: int, seed: int = 0, center: float = 3.0) -> GroupMoments:
    """Groups of normal values; centers spread `center` about 0."""
    rng = np.random.default_rng(seed)
    records = len(deviation_N)
    values_MN = center * rng.normal(size=records) + deviation_N * rng.normal(size=(models, records))
    return group_moments(values_MN[:, :, None], np.ones((models, records), dtype=bool))


def scaled_inverse_chi2(records: int, freedom: float, variance: float, seed: int = 1) -> Floats:
    """Deviations whose squares are drawn from the prior."""
    return np.sqrt(variance * freedom / np.random.default_rng(seed).chisquare(freedom, records))


@given(st.floats(1e-9, 1e9))
@settings(max_examples=200)
def test_inverse_trigamma(value: float) -> None:
    # Beyond 1e-6 … 1e7 the function is its asymptote, whose relative error is below 1e-3 there.
    assert float(polygamma(1, inverse_trigamma(value))) == pytest.approx(value, rel=1e-3)
    if 1e-6 < value < 1e7:
        assert float(polygamma(1, inverse_trigamma(value))) == pytest.approx(value, rel=1e-8)


def test_pooled_residuals_find_the_deviation_however_few_models() -> None:
    for models in (2, 3, 8):
        prior = pooled_residuals(drawn(np.full(20_000, 0.7), models))
        assert np.sqrt(prior.variance_Q[0]) == pytest.approx(0.7, rel=0.01)


def test_pooled_residuals_weigh_uneven_groups_by_their_freedom() -> None:
    rng = np.random.default_rng(0)
    values_MNQ, mask_MN = rng.normal(0, 2, (8, 30_000, 1)), rng.random((8, 30_000)) < 0.4
    assert np.sqrt(pooled_residuals(group_moments(values_MNQ, mask_MN)).variance_Q[0]) == pytest.approx(2, rel=0.01)


def test_the_official_spread_is_that_of_all_values_and_counts_the_records_differences() -> None:
    rng = np.random.default_rng(0)
    values_MNQ = 3 * rng.normal(size=(1, 50, 2)) + rng.normal(size=(8, 50, 2))
    mask_MN = rng.random((8, 50)) < 0.5
    mask_MN[:, 7] = False
    prior = spread_of_all(group_moments(values_MNQ, mask_MN))
    assert prior.variance_Q == pytest.approx(np.full(2, values_MNQ[mask_MN].var()))
    assert prior.variance_Q[0] > 5  # 3² + 1², not the 1 by which models differ on a record


@pytest.mark.parametrize(("freedom", "variance"), [(4.0, 1.0), (10.0, 0.25)])
def test_the_moderated_prior_is_found(freedom: float, variance: float) -> None:
    prior = moderated(drawn(scaled_inverse_chi2(40_000, freedom, variance), 8))
    assert prior.freedom_Q[0] == pytest.approx(freedom, rel=0.05)
    assert prior.variance_Q[0] == pytest.approx(variance, rel=0.03)


def test_the_moderated_prior_is_found_with_groups_of_all_sizes() -> None:
    rng = np.random.default_rng(0)
    deviation_N = scaled_inverse_chi2(60_000, 6.0, 2.0)
    values_MNQ = (deviation_N * rng.normal(size=(8, len(deviation_N))))[:, :, None]
    prior = moderated(group_moments(values_MNQ, rng.random((8, len(deviation_N))) < 0.6))
    assert prior.freedom_Q[0] == pytest.approx(6, rel=0.08)
    assert prior.variance_Q[0] == pytest.approx(2, rel=0.03)


def test_records_of_one_deviation_share_it() -> None:
    freedoms = [moderated(drawn(np.full(5000, 0.7), 8, seed)).freedom_Q[0] for seed in range(6)]
    assert min(freedoms) > 100  # infinite, but for chance
    prior = moderated(drawn(np.full(5000, 0.7), 8))
    assert np.sqrt(prior.variance_Q[0]) == pytest.approx(0.7, rel=0.02)


def test_each_query_has_a_prior_of_its_own() -> None:
    rng = np.random.default_rng(0)
    values_MNQ = rng.normal(size=(8, 5000, 2)) * np.array([1.0, 5.0])
    group = group_moments(values_MNQ, np.ones((8, 5000), dtype=bool))
    for estimate in (pooled_residuals, moderated):
        assert np.sqrt(estimate(group).variance_Q) == pytest.approx([1, 5], rel=0.03)


def test_shrinking_lies_between_the_records_own_and_the_common_variance() -> None:
    group = drawn(scaled_inverse_chi2(500, 5.0, 1.0), 8)
    prior = moderated(group)
    own_NQ, common = OWN_VARIANCES.variance(group), prior.variance_Q[0]
    shrunk_NQ = prior.variance(group)
    assert np.array_equal(own_NQ, group.variance_NQ)
    assert ((np.minimum(own_NQ, common) <= shrunk_NQ) & (shrunk_NQ <= np.maximum(own_NQ, common))).all()
    expected_NQ = (prior.freedom_Q * common + 7 * own_NQ) / (prior.freedom_Q + 7)
    assert shrunk_NQ == pytest.approx(expected_NQ)


def test_the_moderated_variance_errs_least() -> None:
    deviation_N = scaled_inverse_chi2(5000, 5.0, 1.0)
    group = drawn(deviation_N, 8)

    def error(prior: VariancePrior) -> float:
        return float(np.square(np.log(prior.variance(group)[:, 0] / deviation_N**2)).mean())

    assert error(moderated(group)) < 0.85 * min(error(OWN_VARIANCES), error(pooled_residuals(group)))


def test_more_models_leave_a_record_more_of_its_own() -> None:
    rng = np.random.default_rng(0)
    mask_MN = np.arange(16)[:, None] < np.array([1, 2, 8, 16])
    group = group_moments(rng.normal(size=(16, 4, 1)), mask_MN)
    shrunk_N = VariancePrior(np.array([100.0]), np.array([4.0])).variance(group)[:, 0]
    assert shrunk_N[0] == 100  # one model: nothing of its own
    own_N = (100 - shrunk_N) / (100 - group.variance_NQ[:, 0])
    assert own_N == pytest.approx([0, 1 / 5, 7 / 11, 15 / 19])


def test_models_that_agree_leave_a_variance_above_zero() -> None:
    group = group_moments(np.zeros((8, 5, 1)), np.ones((8, 5), dtype=bool))
    for prior in (OWN_VARIANCES, pooled_residuals(group), spread_of_all(group), moderated(group)):
        assert prior.variance(group) == pytest.approx(np.full((5, 1), 1e-12), rel=0.2)


def test_a_few_records_that_agree_do_not_decide_the_prior() -> None:
    deviation_N = np.full(5000, 0.7)
    deviation_N[:25] = 0
    prior = moderated(drawn(deviation_N, 8))
    assert prior.freedom_Q[0] > 3  # taken as 1e-12 instead of a share of the median, they would leave 1
