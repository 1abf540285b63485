"""The spread of losses: the worked example, every mode by hand, and several workers against one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from raymia.adversarial import Mode, spread
from raymia.training.run import Alone, Group
from tests.adversarial.crafting import together

LOSSES = [0.0, 1.0, 2.0, 3.0]
LABELS = torch.tensor([0, 0, 2, 2])
MODES: tuple[Mode, ...] = ("var", "var_low", "var_high", "std", "class_variance", "topk_mem")


def measured(mode: Mode, values: list[float], labels: Tensor = LABELS) -> tuple[float, list[float]]:
    """The spread, and its gradient by each loss."""
    losses = torch.tensor(values, requires_grad=True)
    found = spread(losses, labels, 4, mode, Alone())
    found.backward()
    assert losses.grad is not None
    assert found.dtype == torch.float32
    return found.item(), losses.grad.tolist()


def test_the_worked_example() -> None:
    """l = (0, 1, 2, 3), λ = 0.5: 1.5 + 0.5 · 1.66667, and the weight of each sample in the gradient."""
    losses = torch.tensor(LOSSES, requires_grad=True)
    total = losses.mean() + 0.5 * spread(losses, LABELS, 4, "var", Alone())
    assert total.item() == pytest.approx(2.33333, abs=1e-5)
    total.backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == pytest.approx([-0.25, 0.08333, 0.41667, 0.75], abs=1e-5)


@pytest.mark.parametrize(
    ("mode", "value", "gradient"),
    [
        ("var", 5 / 3, [-1, -1 / 3, 1 / 3, 1]),
        ("topk_mem", 5 / 3, [-1, -1 / 3, 1 / 3, 1]),
        ("std", (5 / 3) ** 0.5, [-0.387298, -0.129099, 0.129099, 0.387298]),
        # (0, 1, 1.5, 1.5), whose mean is 1: only what is below 1.5 has a gradient, 2 (m - 1) / 3.
        ("var_low", 0.5, [-2 / 3, 0, 0, 0]),
        # (1.5, 1.5, 2, 3), whose mean is 2.
        ("var_high", 0.5, [0, 0, 0, 2 / 3]),
        # Class means 0.5 and 2.5, two classes absent: variance 2, by a mean ∓2, half of it for each of two records.
        ("class_variance", 2.0, [-1, -1, 1, 1]),
    ],
)
def test_every_mode_by_hand(mode: Mode, value: float, gradient: list[float]) -> None:
    found, slope = measured(mode, LOSSES)
    assert found == pytest.approx(value, rel=1e-5)
    assert slope == pytest.approx(gradient, abs=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_equal_losses_have_no_spread_and_nowhere_to_go(mode: Mode) -> None:
    found, slope = measured(mode, [2.0] * 4)
    assert found == pytest.approx(0, abs=2e-6)
    assert slope == [0, 0, 0, 0]


@pytest.mark.parametrize("mode", MODES)
def test_one_record_has_no_spread(mode: Mode) -> None:
    found, slope = measured(mode, [2.0], torch.tensor([1]))
    assert found == pytest.approx(0, abs=2e-6)
    assert slope == [0]


def test_nothing_chosen_is_no_penalty() -> None:
    losses = torch.tensor(LOSSES, requires_grad=True)
    found = spread(losses[torch.zeros(0, dtype=torch.int64)], LABELS, 4, "topk_mem", Alone())
    found.backward()
    assert found.item() == 0
    assert losses.grad is not None
    assert losses.grad.tolist() == [0, 0, 0, 0]


def gradients(mode: Mode, shares: list[list[int]]) -> tuple[list[float], Tensor]:
    """Each worker's value, and the gradient by one shared parameter as the plain step and its group make it."""
    rng = np.random.default_rng(0)
    inputs, labels = torch.from_numpy(rng.normal(size=(7, 3))), torch.tensor([0, 1, 3, 1, 0, 0, 3])
    total = sum(map(len, shares))

    def work(numbers: list[int]) -> Callable[[Group], tuple[float, Tensor]]:
        def on(group: Group) -> tuple[float, Tensor]:
            weight = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
            losses = torch.nn.functional.softplus(inputs[numbers] @ weight)
            found = spread(losses, labels[numbers], 4, mode, group)
            (found * (len(numbers) * group.world / total)).backward()
            assert weight.grad is not None
            return found.item(), weight.grad

        return on

    if len(shares) == 1:
        value, slope = work(shares[0])(Alone())
        return [value], slope
    found = together(len(shares), lambda group: work(shares[group.rank])(group))
    return [value for value, _ in found], torch.stack([slope for _, slope in found]).mean(dim=0)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "topk_mem"])
@pytest.mark.parametrize("world", [2, 3])
def test_several_workers_have_one_workers_value_and_gradient(mode: Mode, world: int) -> None:
    """Shares of different sizes, and classes that only one worker has."""
    [value], slope = gradients(mode, [list(range(7))])
    values, mean = gradients(mode, [one.tolist() for one in np.array_split(np.arange(7), world)])
    assert values == pytest.approx([value] * world, rel=1e-9)
    torch.testing.assert_close(mean, slope, rtol=1e-9, atol=1e-12)
    assert slope.abs().max() > 1e-3


def test_a_workers_own_variance_would_be_another() -> None:
    """So the comparison above can fail."""
    [value], _ = gradients("var", [list(range(7))])
    own, _ = gradients("var", [list(range(4))])
    assert own != pytest.approx([value], rel=0.05)
