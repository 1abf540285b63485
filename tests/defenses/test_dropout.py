"""Dropout before the last linear layer, and only while training."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raymia.defenses import Dropout
from raymia.errors import InputError
from raymia.training.run import Run
from tests.training.conftest import equal_bits, fit, image_rows, run_by_hand, small_config

FEATURES = 2000


def run_with(rate: float) -> tuple[Run, list[Tensor]]:
    """A run whose last layer writes down what reaches it."""
    net = nn.Sequential(nn.Linear(3, FEATURES), nn.Linear(FEATURES, 3))
    run = run_by_hand(Dropout(rate=rate), net=net)
    seen: list[Tensor] = []
    net[1].register_forward_pre_hook(lambda layer, arguments: seen.append(arguments[0].detach().clone()))
    return run, seen


def test_inputs_of_the_last_layer_are_dropped_and_the_rest_scaled_up() -> None:
    run, seen = run_with(0.3)
    inputs = torch.ones(5, 3)
    run.model.train()
    torch.manual_seed(0)
    run.forward(inputs)
    hidden = run.model.net[0](inputs).detach()  # type: ignore[index]
    dropped = seen[0] == 0
    assert float(dropped.float().mean()) == pytest.approx(0.3, abs=0.03)
    assert not torch.equal(dropped[0], dropped[1])
    torch.testing.assert_close(seen[0][~dropped], (hidden / 0.7)[~dropped])


def test_the_finished_model_drops_nothing() -> None:
    run, seen = run_with(0.9)
    run.model.eval()
    run.forward(torch.ones(5, 3))
    torch.testing.assert_close(seen[0], run.model.net[0](torch.ones(5, 3)).detach())  # type: ignore[index]


def test_a_rate_of_zero_is_plain_training_bit_for_bit() -> None:
    plain = fit(image_rows(), small_config()).weights(6)
    assert equal_bits(fit(image_rows(), small_config(), Dropout(rate=0)).weights(6), plain)


def test_the_names_of_the_weights_are_the_plain_models() -> None:
    plain = fit(image_rows(), small_config(epochs=1)).weights(1)
    dropped = fit(image_rows(), small_config(epochs=1), Dropout(rate=0.5)).weights(1)
    assert list(dropped) == list(plain)
    assert not equal_bits(dropped, plain)


def test_a_model_without_a_linear_layer_is_refused_with_the_remedy() -> None:
    class Mean(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs

    with pytest.raises(InputError, match=r"no linear layer with 3 outputs.*choose another defense"):
        run_by_hand(Dropout(rate=0.5), net=nn.Sequential(Mean(), nn.Conv1d(1, 1, 1)))


def test_the_higher_the_rate_the_harder_the_training_set() -> None:
    losses = [fit(image_rows(), small_config(epochs=20), Dropout(rate=rate)).histories[20][-1] for rate in (0, 0.8)]
    assert np.diff(losses)[0] > 0.1
