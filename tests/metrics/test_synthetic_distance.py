"""Fréchet and kernel distance against numbers known in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymia.errors import InputError
from raymia.metrics.synthetic_distance import frechet_distance, kid, unbiased_mmd2


def with_moments(mean: np.ndarray, covariance: np.ndarray, records: int, seed: int = 0) -> np.ndarray:
    """float64[records, d] whose sample mean and covariance are exactly these."""
    drawn = np.random.default_rng(seed).normal(size=(records, len(mean)))
    drawn -= drawn.mean(axis=0)
    white = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_frechet_of_gaussians_with_diagonal_covariances() -> None:
    # |m|² + Σ (s - t)²: means 3 and 4 apart, standard deviations (1, 2) against (2, 5).
    ours = with_moments(np.zeros(2), np.diag([1.0, 4.0]), 50)
    theirs = with_moments(np.array([3.0, 4.0]), np.diag([4.0, 25.0]), 80, seed=1)
    assert frechet_distance(ours, theirs) == pytest.approx(25 + 1 + 9)


def test_frechet_of_covariances_that_do_not_commute() -> None:
    # For 2 × 2, tr (S T)^½ = (tr ST + 2 (det ST)^½)^½.
    s, t = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -0.5], [-0.5, 4.0]])
    assert not np.allclose(s @ t, t @ s)
    root = np.sqrt(np.trace(s @ t) + 2 * np.sqrt(np.linalg.det(s @ t)))
    found = frechet_distance(with_moments(np.zeros(2), s, 40), with_moments(np.zeros(2), t, 40, seed=1))
    assert found == pytest.approx(np.trace(s + t) - 2 * root)


def test_frechet_of_a_set_with_itself_is_zero_also_with_fewer_records_than_dimensions_and_dead_features() -> None:
    features = np.random.default_rng(0).normal(size=(20, 64)) * np.linspace(0, 100, 64)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    shifted = features + np.eye(64)[3] * 2
    assert frechet_distance(features, shifted) == pytest.approx(4, abs=1e-6)


@given(seed=st.integers(0, 2**32), scale=st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_frechet_is_symmetric_and_scales_with_the_square(seed: int, scale: float) -> None:
    draw = np.random.default_rng(seed)
    ours, theirs = draw.normal(size=(12, 4)), 2 * draw.normal(size=(9, 4)) + 1
    distance = frechet_distance(ours, theirs)
    assert frechet_distance(theirs, ours) == pytest.approx(distance)
    assert frechet_distance(scale * ours, scale * theirs) == pytest.approx(scale**2 * distance)


def test_frechet_of_equal_distributions_grows_with_dimensions_over_records() -> None:
    draw = np.random.default_rng(0)
    few, many = (frechet_distance(draw.normal(size=(n, 16)), draw.normal(size=(n, 16))) for n in (40, 4000))
    assert few > 20 * many > 0


def test_mmd2_by_hand() -> None:
    # d = 1, k(a, b) = (ab + 1)³: within 0 and 1 it is 1, within 2 and -1 it is -1; between them 1, 1, 27, 0.
    ours, theirs = np.array([[0.0], [1.0]]), np.array([[2.0], [-1.0]])
    expected = pytest.approx(1 - 1 - 2 * 29 / 4)
    assert unbiased_mmd2(ours, theirs) == expected
    # The kernel is of the mean product over dimensions: a dimension twice is the same distance.
    assert unbiased_mmd2(np.repeat(ours, 2, axis=1), np.repeat(theirs, 2, axis=1)) == expected


def test_mmd2_of_equal_distributions_is_zero_on_average_and_as_often_below() -> None:
    draw = np.random.default_rng(3)
    found = np.array([unbiased_mmd2(draw.normal(size=(20, 3)), draw.normal(size=(20, 3))) for _ in range(600)])
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(600)
    assert 0.3 < (found < 0).mean() < 0.75


def test_kid_sees_a_shift_and_a_difference_of_third_moments() -> None:
    draw = np.random.default_rng(0)
    real = draw.normal(size=(400, 4))
    assert kid(real, draw.normal(size=(400, 4)) + 1, draw, subset=100, subsets=10).mean > 0.5
    skewed = draw.exponential(size=(4000, 1)) - 1  # mean 0, variance 1, as the normal
    found = kid(draw.normal(size=(4000, 1)), skewed, draw, subset=1000, subsets=10)
    # E (ab)³ of either part: the squared difference of third moments, 2² = 4, more where finite samples agree less.
    assert found.mean == pytest.approx(4, rel=0.5)


def test_kid_subsets_are_never_the_whole_set_and_follow_the_generator() -> None:
    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(size=(31, 3)), draw.normal(size=(90, 3))
    found = kid(ours, theirs, np.random.default_rng(1), subsets=7)
    assert (found.subset, found.subsets) == (15, 7)
    assert found.std > 0
    assert found == kid(ours, theirs, np.random.default_rng(1), subsets=7)
    assert found != kid(ours, theirs, np.random.default_rng(2), subsets=7)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (np.zeros((5, 2)), np.zeros((5, 3)), "of one encoder"),
        (np.zeros((1, 2)), np.zeros((5, 2)), "no spread"),
        (np.full((5, 2), np.nan), np.zeros((5, 2)), "diverged"),
        (np.zeros(5), np.zeros((5, 2)), r"float\[n, d\]"),
        (np.zeros((5, 2), dtype=np.int64), np.zeros((5, 2)), r"float\[n, d\]"),
        (np.zeros((0, 2)), np.zeros((5, 2)), "empty"),
        (np.zeros((5, 2, 2, 1), dtype=np.uint8), np.zeros((5, 2, 2, 1), dtype=np.uint8), "of one encoder"),
    ],
)
def test_refuses_what_has_no_distance(ours: np.ndarray, theirs: np.ndarray, message: str) -> None:
    for measure in (frechet_distance, lambda a, b: kid(a, b, np.random.default_rng(0))):
        with pytest.raises(InputError, match=message):
            measure(ours, theirs)


def test_kid_refuses_too_few() -> None:
    with pytest.raises(InputError, match="4 records"):
        kid(np.zeros((3, 2)), np.zeros((9, 2)), np.random.default_rng(0))
