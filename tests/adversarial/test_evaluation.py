"""What a model withstands: a linear one's robust accuracy is known in closed form."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raymia.adversarial import Attack, pgd_correct
from tests.adversarial.crafting import images, linear

COUNT = 200
WEAK = Attack("linf", 0.1, 1, 1e-6)


def margins(net: nn.Module, inputs: Tensor) -> np.ndarray:
    with torch.no_grad():
        logits = net(inputs)
    found: np.ndarray = (logits[:, 0] - logits[:, 1]).numpy()
    return found


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_models_robust_records_are_those_with_the_margin(norm: str) -> None:
    """It withstands ε where its margin is above ε times the dual norm of the two weights' difference."""
    net, inputs = linear(2), images(COUNT, low=0.3, high=0.7)
    net[1].bias.data[0] -= float(np.median(margins(net, inputs)))
    labels = torch.from_numpy((margins(net, inputs) < 0).astype(np.int64))
    labels[::10] = 1 - labels[::10]  # and some that it gets wrong anyway
    signed = np.where(labels.numpy() == 0, 1, -1) * margins(net, inputs)
    weight = net[1].weight.detach().numpy()
    difference = weight[0] - weight[1]
    reach = 0.05 * (np.abs(difference).sum() if norm == "linf" else np.sqrt((difference**2).sum()))
    attack = Attack("linf" if norm == "linf" else "l2", 0.05, 40, 0.01)
    found = pgd_correct(net, inputs, labels, attack, np.random.default_rng(0), batch_size=64)
    clear = np.abs(signed - reach) > 1e-3
    np.testing.assert_array_equal(found[clear], (signed > reach)[clear])
    assert 0.1 < found.mean() < (signed > 0).mean()


class Rugged(nn.Module):
    """Right but on a thin band beside the images, which a single step finds only from some starts."""

    def forward(self, inputs: Tensor) -> Tensor:
        value = inputs[:, 0, 0, 0]
        inside = ((value > 0.52) & (value < 0.55)).to(inputs.dtype)
        return torch.stack([1.0 - 2 * inside + 0 * value, torch.zeros_like(value) + 1e-6 * value], dim=1)


def test_a_record_must_withstand_every_restart() -> None:
    inputs, labels = torch.full((COUNT, 1, 2, 2), 0.5), torch.zeros(COUNT, dtype=torch.int64)
    found = [
        pgd_correct(Rugged(), inputs, labels, WEAK, np.random.default_rng(0), restarts=restarts)
        for restarts in (1, 2, 8)
    ]
    # Each start falls into the band with probability 0.15.
    for restarts, right in zip((1, 2, 8), found, strict=True):
        assert right.mean() == pytest.approx(0.85**restarts, abs=0.09)


def test_a_record_that_is_wrong_as_it_is_never_counts() -> None:
    inputs, labels = torch.full((4, 1, 2, 2), 0.53), torch.zeros(4, dtype=torch.int64)
    found = pgd_correct(Rugged(), inputs, labels, WEAK, np.random.default_rng(1))
    assert not found.any()


def test_images_outside_of_the_range_are_refused() -> None:
    labels = torch.zeros(1, dtype=torch.int64)
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"in \[0, 1\]"):
            pgd_correct(linear(), torch.full((1, 1, 2, 2), value), labels, WEAK, np.random.default_rng(0))


def test_nothing_is_withstood_by_nobody() -> None:
    empty = torch.zeros(0, dtype=torch.int64)
    assert pgd_correct(linear(), images(0), empty, WEAK, np.random.default_rng(0)).shape == (0,)
