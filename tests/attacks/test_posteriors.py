from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymia.attacks.posteriors import (
    cross_entropy,
    entropy,
    log_posteriors,
    modified_entropy,
    scaled_confidence,
)

P = np.log([[0.7, 0.2, 0.1]])
LABELLED = (scaled_confidence, cross_entropy, modified_entropy)


def label(y: int) -> Any:
    return np.array([y])


def test_known_answers() -> None:
    assert entropy(P)[0] == pytest.approx(0.80182, abs=5e-6)
    assert modified_entropy(P, label(0))[0] == pytest.approx(0.16217, abs=5e-6)
    assert modified_entropy(P, label(2))[0] == pytest.approx(2.95974, abs=5e-6)
    assert scaled_confidence(P, label(0))[0] == pytest.approx(0.84730, abs=5e-6)
    assert cross_entropy(P, label(1))[0] == pytest.approx(-np.log(0.2))
    assert np.exp(log_posteriors(P + 5))[0] == pytest.approx([0.7, 0.2, 0.1])


def decimal_reference(logits: list[float], y: int) -> dict[str, Decimal]:
    """The definitions, with enough digits to write them down as they are."""
    with localcontext() as context:
        context.prec = 160
        raised = [Decimal(z).exp() for z in logits]
        p = [value / sum(raised) for value in raised]
        return {
            "cross_entropy": -p[y].ln(),
            "scaled_confidence": p[y].ln() - (1 - p[y]).ln(),
            "entropy": -sum((q * q.ln() for q in p), Decimal()),
            "modified_entropy": -(1 - p[y]) * p[y].ln()
            - sum((q * (1 - q).ln() for k, q in enumerate(p) if k != y), Decimal()),
        }


@given(st.lists(st.floats(-60, 60, width=32), min_size=2, max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_all_digits_are_right_however_sure_the_model_is(logits: list[float], data: st.DataObject) -> None:
    y = data.draw(st.integers(0, len(logits) - 1))
    exact = decimal_reference(logits, y)
    array = np.array([logits])
    for function in LABELLED:
        # phi may cancel to nearly 0, where only its absolute error can be small.
        absolute = 1e-12 if function is scaled_confidence else 1e-300
        assert function(array, label(y))[0] == pytest.approx(float(exact[function.__name__]), rel=1e-11, abs=absolute)
    assert entropy(array)[0] == pytest.approx(float(exact["entropy"]), rel=1e-11, abs=1e-300)


def test_records_the_model_is_very_sure_of_do_not_tie() -> None:
    logits_NC = np.zeros((5, 3), np.float32)
    logits_NC[:, 0] = [40, 60, 80, 100, 120]
    labels_N = np.zeros(5, np.int64)
    for values in (cross_entropy(logits_NC, labels_N), entropy(logits_NC), modified_entropy(logits_NC, labels_N)):
        assert (np.diff(values) < 0).all()
        assert (values > 0).all()


@pytest.mark.parametrize(
    "row", [[1e4, -1e4, 0], [-1e4, 1e4, 1e4], [0, 0, 0], [1e4] * 3, [0, -np.inf, -np.inf], [-np.inf, 1, 2]]
)
@pytest.mark.parametrize("y", [0, 1, 2])
def test_extreme_logits_give_no_nan(row: list[float], y: int) -> None:
    logits_NC = np.array([row], np.float32)
    assert not np.isnan(log_posteriors(logits_NC)).any()
    assert 0 <= entropy(logits_NC)[0] <= np.log(3) + 1e-12
    assert not np.isnan(scaled_confidence(logits_NC, label(y))).any()
    for function in (cross_entropy, modified_entropy):
        assert function(logits_NC, label(y))[0] >= 0


def test_a_posterior_of_exactly_one_or_zero() -> None:
    sure = np.array([[0, -np.inf, -np.inf]])
    assert entropy(sure)[0] == 0
    assert cross_entropy(sure, label(0))[0] == modified_entropy(sure, label(0))[0] == 0
    assert scaled_confidence(sure, label(0))[0] == np.inf
    assert cross_entropy(sure, label(1))[0] == modified_entropy(sure, label(1))[0] == np.inf
    assert scaled_confidence(sure, label(1))[0] == -np.inf


def test_equal_logits() -> None:
    logits_NC = np.full((1, 4), 3.0)
    assert entropy(logits_NC)[0] == pytest.approx(np.log(4))
    assert scaled_confidence(logits_NC, label(2))[0] == pytest.approx(-np.log(3))
    assert modified_entropy(logits_NC, label(2))[0] == pytest.approx(0.75 * np.log(4) - 0.75 * np.log(0.75))


@pytest.mark.parametrize("function", [*LABELLED, lambda logits_NC, _: entropy(logits_NC)])
def test_results_are_float64_and_depend_on_no_memory_layout(function: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    strided_NC = rng.normal(0, 5, (37, 3, 43)).astype(np.float32)[:, 1]
    labels_N = rng.integers(0, 43, 37)
    values_N = function(strided_NC, labels_N)
    assert values_N.dtype == np.float64
    assert values_N.shape == (37,)
    assert np.array_equal(values_N, function(np.asfortranarray(strided_NC), labels_N))


def test_the_input_is_left_as_it_was() -> None:
    logits_NC = np.random.default_rng(0).normal(size=(4, 3))
    before = logits_NC.copy()
    modified_entropy(logits_NC, np.zeros(4, np.int64))
    scaled_confidence(logits_NC, np.zeros(4, np.int64))
    assert np.array_equal(logits_NC, before)
