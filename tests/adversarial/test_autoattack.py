"""AutoAttack by its authors' package, held against a closed form, our own PGD and a model that hides its gradients."""

import logging
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raymia.adversarial import Attack, autoattack_correct, pgd_correct
from raymia.adversarial import autoattack as module
from raymia.errors import InputError
from tests.adversarial.crafting import images, linear

COUNT = 60
CLASSES = 4
EPSILON = 0.05


def attacked(net: nn.Module, inputs: Tensor, labels: Tensor, norm: str = "linf", seed: int = 0) -> np.ndarray:
    ball = "linf" if norm == "linf" else "l2"
    return autoattack_correct(net, inputs, labels, ball, EPSILON, np.random.default_rng(seed))[0]  # type: ignore[arg-type]


def spare(net: nn.Module, inputs: Tensor, labels: Tensor, norm: str) -> np.ndarray:
    """By how much the label's logit stays ahead at the worst point of the ball: a linear model's, in closed form."""
    weight = net[1].weight.detach().numpy()  # type: ignore[index]
    logits = net(inputs).detach().numpy()
    rows = np.arange(len(labels))
    apart = weight[labels][:, None] - weight[None]
    reach = np.abs(apart).sum(axis=2) if norm == "linf" else np.sqrt((apart**2).sum(axis=2))
    margins = logits[rows, labels][:, None] - logits - EPSILON * reach
    margins[rows, labels] = np.inf
    found: np.ndarray = margins.min(axis=1)
    return found


def case(side: int = 2) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear model of four classes, images whose ball lies inside the range, a third of the labels wrong."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0.3, 0.7, size=(COUNT, 1, side, side)).astype(np.float32)
    inputs = torch.from_numpy(pixels)
    net = nn.Sequential(nn.Flatten(), nn.Linear(side * side, CLASSES))
    with torch.no_grad():
        net[1].weight.copy_(torch.from_numpy(rng.normal(size=(CLASSES, side * side)).astype(np.float32)))
        net[1].bias -= net(inputs).mean(dim=0)
        labels = net(inputs).argmax(dim=1)
    labels[::3] = (labels[::3] + 1) % CLASSES
    return net, inputs, labels


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_models_robust_records_are_known(norm: str) -> None:
    net, inputs, labels = case(side=2 if norm == "linf" else 6)
    expected = spare(net, inputs, labels, norm)
    found = attacked(net, inputs, labels, norm)
    clear = np.abs(expected) > 1e-4
    np.testing.assert_array_equal(found[clear], (expected > 0)[clear])
    assert 0.05 < found.mean() < 0.6
    pgd = Attack("linf" if norm == "linf" else "l2", EPSILON, 40, EPSILON / 4)
    ours = pgd_correct(net, inputs, labels, pgd, np.random.default_rng(1))
    # Our PGD climbs the sum of all other classes' probabilities, AutoAttack each class by itself as well.
    assert not (found & ~ours)[clear].any()
    assert (ours & ~found)[clear].mean() < 0.15


class Masked(nn.Module):
    """The linear model behind rounded pixels: no gradient gets through, though the model is as weak as before."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.net((inputs * 64).round() / 64)
        return logits


def test_gradients_that_are_hidden_do_not_make_a_model_robust() -> None:
    net, inputs, labels = case()
    masked = Masked(net)
    step = Attack("linf", EPSILON, 20, EPSILON / 4)
    fooled = pgd_correct(masked, inputs, labels, step, np.random.default_rng(0))
    found, warnings = autoattack_correct(masked, inputs, labels, "linf", EPSILON, np.random.default_rng(0))
    assert found.mean() < fooled.mean() - 0.1
    assert any("zero gradient" in warning for warning in warnings)
    assert any("Square Attack" in warning for warning in warnings)
    assert autoattack_correct(net, inputs, labels, "linf", EPSILON, np.random.default_rng(0))[1] == ()


def test_it_leaves_the_program_as_it_found_it(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    net, inputs, labels = case()
    net.train()
    net[1].weight.grad = None  # type: ignore[index]
    before = torch.random.get_rng_state()
    tracing: Callable[..., None] = lambda *event: None  # noqa: E731 - what a debugger would set
    previous = sys.gettrace()
    sys.settrace(tracing)
    try:
        attacked(Masked(net), inputs[:12], labels[:12])
        assert sys.gettrace() is tracing
    finally:
        sys.settrace(previous)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert net.training
    assert net[1].weight.grad is None  # type: ignore[index]
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not caplog.records
    assert capsys.readouterr() == ("", "")
    assert logging.getLogger("auto-attack").propagate
    assert not logging.getLogger("auto-attack").handlers


def test_it_depends_on_its_stream_alone() -> None:
    net, inputs, labels = case()
    torch.manual_seed(1)
    first = attacked(Masked(net), inputs, labels)
    torch.manual_seed(2)
    np.testing.assert_array_equal(attacked(Masked(net), inputs, labels), first)


def test_an_example_outside_of_the_ball_convicts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    net, inputs, labels = case()
    with torch.no_grad():
        right = (net(inputs).argmax(dim=1) == labels).numpy()
    monkeypatch.setattr(module, "_examples", lambda net, images, *rest: images.flip(0))
    found, _ = autoattack_correct(net, inputs, labels, "linf", 1e-6, np.random.default_rng(0))
    np.testing.assert_array_equal(found, right)


def test_an_example_that_is_right_does_not_make_up_for_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    net, inputs, labels = case()
    with torch.no_grad():
        predicted = net(inputs).argmax(dim=1)
    rightly = torch.stack([inputs[predicted == label][0] for label in labels])
    monkeypatch.setattr(module, "_examples", lambda *given: rightly)
    found, _ = autoattack_correct(net, inputs, labels, "linf", 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(found, (predicted == labels).numpy())
    assert 0 < found.sum() < COUNT


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(InputError, match=r"aa needs 4 classes or more, the records have 3"):
        attacked(linear(3), images(4), torch.zeros(4, dtype=torch.int64))


def test_images_too_small_for_square_are_refused() -> None:
    net, inputs, labels = case(side=4)
    with pytest.raises(InputError, match=r"5 pixels a side for l2, the images have 4; set it to linf"):
        attacked(net, inputs, labels, "l2")


def test_images_outside_of_the_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        attacked(linear(4), torch.full((1, 1, 2, 2), 1.2), torch.zeros(1, dtype=torch.int64))


def test_nobody_is_attacked() -> None:
    assert attacked(linear(4), images(0), torch.zeros(0, dtype=torch.int64)).shape == (0,)
