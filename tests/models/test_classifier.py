"""Normalization inside the classifier, and the last linear layer."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from raymia.errors import InputError
from raymia.models import Classifier, build_model, last_linear


def test_normalizes_by_channel() -> None:
    model = Classifier(nn.Identity(), (2, 3, 3), 2)
    inputs = torch.rand(4, 2, 3, 3)
    assert torch.equal(model(inputs), inputs)
    model.set_normalization([0.5, 0.25], np.array([0.5, 2.0]))
    torch.testing.assert_close(model(inputs)[:, 0], (inputs[:, 0] - 0.5) / 0.5)
    torch.testing.assert_close(model(inputs)[:, 1], (inputs[:, 1] - 0.25) / 2.0)


def test_normalizes_features_and_only_centers_a_constant_one() -> None:
    model = Classifier(nn.Identity(), (3,), 3)
    model.set_normalization([1.0, 2.0, 3.0], [2.0, 0.0, 1.0])
    assert model(torch.tensor([[3.0, 2.5, 3.0]])).tolist() == [[1.0, 0.5, 0.0]]


def test_normalization_is_saved_with_the_weights_and_never_trained() -> None:
    model = build_model("mlp", (4,), 2)
    model.set_normalization(range(4), range(1, 5))
    other = build_model("mlp", (4,), 2)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    inputs = torch.rand(5, 4)
    assert torch.equal(model(inputs), other(inputs))
    assert not {"mean", "std"} & {name for name, _ in model.named_parameters()}


def test_set_normalization_keeps_earlier_copies_apart() -> None:
    model = build_model("mlp", (2,), 2)
    mean = np.zeros(2)
    model.set_normalization(mean, np.ones(2))
    mean[:] = 9
    assert model.mean.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.0], [1.0, 1.0], "mean must be 2"),
        ([0.0, 0.0], [[1.0, 1.0]], "std must be 2"),
        ([0.0, float("nan")], [1.0, 1.0], "mean must be 2 finite"),
        ([0.0, 0.0], [1.0, -1.0], "negative"),
    ],
)
def test_set_normalization_refuses_other_values(mean: list[float], std: list[float], message: str) -> None:
    model = Classifier(nn.Identity(), (2, 3, 3), 2)
    with pytest.raises(ValueError, match=message):
        model.set_normalization(mean, std)
    assert model.std.unique().tolist() == [1.0]


def test_last_linear_passes_over_a_layer_that_gives_no_logits() -> None:
    logits = nn.Linear(4, 3)
    assert last_linear(Classifier(nn.Sequential(nn.Linear(2, 4), logits, nn.Linear(3, 5)), (2,), 3)) is logits


def test_last_linear_without_one_says_so() -> None:
    model = Classifier(nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten()), (1, 2, 2), 3)
    with pytest.raises(InputError, match="dropout has no place"):
        last_linear(model)
