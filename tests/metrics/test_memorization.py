"""Memorization scores, their bins, and the false positive rate that a study resolves."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raymia.errors import InputError
from raymia.metrics.memorization import bins_of, count_memorization, resolved_fpr, upper_edges


def bits(rows: list[str]) -> np.ndarray:
    return np.array([[one == "1" for one in row] for row in rows])


def test_a_score_is_how_much_more_often_those_that_trained_on_it_are_right() -> None:
    inside = bits(["1100", "1010", "0101", "0011"])
    right = bits(["1101", "1000", "0111", "0101"])
    found = count_memorization(right, inside)
    # By columns: IN right 2 of 2, OUT right 0 of 2; 2/2 and 1/2; 0/2 and 1/2; 2/2 and 1/2.
    assert found.right_in_N.tolist() == [2, 2, 0, 2]
    assert found.right_out_N.tolist() == [0, 1, 1, 1]
    assert found.in_N.tolist() == found.out_N.tolist() == [2, 2, 2, 2]
    assert found.scores.tolist() == [1.0, 0.5, -0.5, 0.5]


def test_each_side_is_divided_by_its_own_models() -> None:
    found = count_memorization(bits(["1", "0", "1", "0"]), bits(["1", "1", "1", "0"]))
    assert found.scores[0] == pytest.approx(2 / 3)


@given(seed=st.integers(0, 10_000), models=st.integers(2, 20), records=st.integers(1, 12))
def test_swapping_sides_or_answers_turns_the_score_around(seed: int, models: int, records: int) -> None:
    rng = np.random.default_rng(seed)
    inside = rng.random((models, records)) < 0.5
    inside[0], inside[1] = True, False
    right = rng.random((models, records)) < rng.random()
    scores = count_memorization(right, inside).scores
    assert (np.abs(scores) <= 1).all()
    np.testing.assert_allclose(count_memorization(~right, inside).scores, -scores)
    np.testing.assert_allclose(count_memorization(right, ~inside).scores, -scores)
    order = rng.permutation(models)
    np.testing.assert_allclose(count_memorization(right[order], inside[order]).scores, scores)


@pytest.mark.parametrize(
    ("right", "inside", "message"),
    [
        (bits(["1", "1"]), bits(["1", "1"]), "in all models or in none"),
        (bits(["1", "1"]), bits(["0", "0"]), "in all models or in none"),
        (bits(["11", "11"]), bits(["1", "0"]), "give two bool"),
        (np.ones((2, 1)), bits(["1", "0"]), "give two bool"),
        (np.array([True, False]), np.array([True, False]), "give two bool"),
    ],
)
def test_what_cannot_be_counted_is_refused(right: np.ndarray, inside: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        count_memorization(right, inside)


def test_the_first_bin_takes_all_that_is_not_above_0_and_the_others_share_the_rest() -> None:
    assert upper_edges(5).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    scores = [-1.0, -0.01, 0.0, 0.01, 0.25, 0.26, 0.5, 0.75, 0.76, 1.0]
    assert bins_of(scores, 5).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 4, 4]
    assert bins_of([-0.5, 0.0, 0.1, 1.0], 2).tolist() == [0, 0, 1, 1]


def test_twenty_one_bins_are_those_of_the_paper() -> None:
    np.testing.assert_allclose(upper_edges(21), np.arange(0, 1.05, 0.05))
    scores = np.linspace(-0.99, 0.99, 1001)
    np.testing.assert_array_equal(bins_of(scores, 21), np.digitize(scores, np.arange(0, 1.05, 0.05), right=True))


def counts() -> st.SearchStrategy[tuple[int, int]]:
    """Right answers, of how many."""
    return st.integers(1, 64).flatmap(lambda models: st.tuples(st.integers(0, models), st.just(models)))


@example(inside=(9, 10), outside=(7, 10), bins=6)
@given(inside=counts(), outside=counts(), bins=st.sampled_from([2, 3, 5, 6, 11, 21]))
def test_a_score_on_an_edge_belongs_below_it_whatever_the_rounding(
    inside: tuple[int, int], outside: tuple[int, int], bins: int
) -> None:
    exact = Fraction(*inside) - Fraction(*outside)
    below = sum(Fraction(edge, bins - 1) < exact for edge in range(bins))
    assert bins_of([inside[0] / inside[1] - outside[0] / outside[1]], bins).tolist() == [below]


@pytest.mark.parametrize("bins", [1, 0, -3])
def test_fewer_than_two_bins_are_refused(bins: int) -> None:
    with pytest.raises(InputError, match=f"--bins {bins}: give 2 or more"):
        bins_of([0.5], bins)


def test_the_lowest_rate_that_the_nonmembers_resolve_is_taken() -> None:
    assert [resolved_fpr(count) for count in (100, 999, 1000, 9999, 10_000)] == [0.1, 0.1, 0.01, 0.01, 0.001]
    assert resolved_fpr(450, 0.05) == 0.05
    assert resolved_fpr(200, 0.05) == 0.05


@pytest.mark.parametrize(
    ("nonmembers", "asked", "message"),
    [
        (450, 0.01, "--fpr 0.01: 450 non-members cannot resolve it; give --fpr 0.023 or more"),
        (80, None, "--fpr: 80 non-members do not even resolve 0.1; give --fpr 0.13 or more"),
        (1000, 0.009, "give --fpr 0.01 or more"),
        (8, None, "8 non-members do not even resolve 0.1; bring more records"),
        (450, 0.0, "--fpr 0: give a fraction between 0 and 1"),
        (450, 1.0, "--fpr 1: give a fraction between 0 and 1"),
        (450, float("nan"), "--fpr nan: give a fraction between 0 and 1"),
    ],
)
def test_a_rate_that_is_not_resolved_is_refused_with_one_that_is(
    nonmembers: int, asked: float | None, message: str
) -> None:
    with pytest.raises(InputError) as refused:
        resolved_fpr(nonmembers, asked)
    assert message in str(refused.value)
    if "give --fpr " in message:
        remedy = float(str(refused.value).split("give --fpr ")[1].split()[0])
        assert resolved_fpr(nonmembers, remedy) == remedy
