"""Label smoothing's two forms."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.defenses import LabelSmoothing
from raymia.training.defense import TrainingSet
from tests.training.conftest import a_context

Form = Literal["paper", "torch"]


def targets(epsilon: float, form: Form, classes: int, labels: list[int]) -> NDArray[np.float32]:
    rows = TrainingSet(np.zeros((len(labels), 2), dtype=np.float32), np.array(labels))
    smoothed = LabelSmoothing(epsilon=epsilon, form=form).training_set(a_context(classes), {}, rows)
    assert smoothed.inputs is rows.inputs
    assert smoothed.labels is rows.labels
    assert smoothed.targets is not None
    assert smoothed.targets.dtype == np.float32
    return smoothed.targets


def test_the_papers_form_gives_epsilon_to_the_others_in_even_parts() -> None:
    expected = [[0.03, 0.91, 0.03, 0.03], [0.91, 0.03, 0.03, 0.03]]
    np.testing.assert_allclose(targets(0.09, "paper", 4, [1, 0]), expected, rtol=1e-6)


def test_torchs_form_gives_every_class_its_part() -> None:
    expected = [[0.025, 0.925, 0.025, 0.025]]
    np.testing.assert_allclose(targets(0.1, "torch", 4, [1]), expected, rtol=1e-6)


def test_torchs_form_is_torchs() -> None:
    from torch import tensor
    from torch.nn.functional import cross_entropy

    from raymia.training.defense import soft_cross_entropy

    logits = tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    labels = [2, 1]
    ours = soft_cross_entropy(logits, tensor(targets(0.3, "torch", 3, labels)))
    theirs = cross_entropy(logits, tensor(labels), label_smoothing=0.3, reduction="none")
    assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-6)


def test_the_worked_conversion() -> None:
    """K = 10: the paper's 0.1 is torch's 0.11111."""
    np.testing.assert_allclose(targets(0.1, "paper", 10, [3]), targets(0.1111111111, "torch", 10, [3]), atol=1e-7)
    np.testing.assert_allclose(targets(0.1, "paper", 10, [3])[0, [3, 4]], [0.9, 0.1 / 9], rtol=1e-6)


@given(epsilon=st.floats(0, 0.89), classes=st.integers(2, 100))
def test_the_forms_agree_after_conversion_and_sum_to_one(epsilon: float, classes: int) -> None:
    converted = epsilon * classes / (classes - 1)
    paper = targets(epsilon, "paper", classes, [0, classes - 1])
    np.testing.assert_allclose(paper.sum(axis=1), 1, rtol=1e-5)
    if converted < 1:
        np.testing.assert_allclose(paper, targets(converted, "torch", classes, [0, classes - 1]), atol=1e-6)


def test_no_smoothing_is_one_hot() -> None:
    for form in ("paper", "torch"):
        np.testing.assert_array_equal(targets(0.0, form, 3, [2, 0]), np.eye(3)[[2, 0]])
