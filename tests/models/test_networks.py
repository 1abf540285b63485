"""The built-in networks: sizes, shapes, that they learn, and that a record's answer is its own."""

from typing import Any

import pytest
import torch
from torch import nn

from raymia.errors import InputError
from raymia.models import build_model, last_linear

DIGITS, CIFAR, FEATURES = (1, 8, 8), (3, 32, 32), (20,)
SMALL: dict[str, dict[str, Any]] = {
    "resnet18": {"width": 4},
    "vgg11": {"width": 4},
    "cnn": {"widths": (4, 8, 8)},
    "mlp": {"hidden": (16,)},
}
CASES = [(name, shape) for name in SMALL for shape in (DIGITS, CIFAR)] + [("mlp", FEATURES)]


def parameters(name: str, shape: tuple[int, ...], classes: int, **options: Any) -> int:
    return sum(parameter.numel() for parameter in build_model(name, shape, classes, options).parameters())


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options", "count"),
    [
        # Published for the CIFAR stem and for VGG-11 with one linear layer.
        ("resnet18", CIFAR, 10, {}, 11_173_962),
        ("resnet18", CIFAR, 100, {}, 11_220_132),
        ("vgg11", CIFAR, 10, {}, 9_231_114),
        ("vgg11", CIFAR, 10, {"batch_norm": False}, 9_225_610),
        # By hand: weights, two of each BatchNorm channel, the linear layer.
        ("cnn", DIGITS, 10, {"widths": (2, 3, 4)}, 9 * (2 + 6 + 12) + 2 * 9 + 50),
        ("mlp", FEATURES, 3, {"hidden": (7,)}, 20 * 7 + 7 + 7 * 3 + 3),
        ("mlp", FEATURES, 3, {"hidden": ()}, 20 * 3 + 3),
        ("mlp", DIGITS, 10, {"hidden": (5, 6)}, 64 * 5 + 5 + 36 + 70),
    ],
)
def test_known_parameter_counts(
    name: str, shape: tuple[int, ...], classes: int, options: dict[str, Any], count: int
) -> None:
    assert parameters(name, shape, classes, **options) == count


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_gives_logits_and_learns(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = build_model(name, shape, 3, SMALL[name]).train()
    labels = torch.arange(24) % 3
    inputs = (torch.rand(24, *shape) + labels.reshape(-1, *(1 for _ in shape)) / 2).clamp(0, 1)
    model.set_normalization([0.75] * shape[0], [0.25] * shape[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(20):
        logits = model(inputs)
        assert logits.shape == (24, 3)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_vgg11_without_batch_norm_passes_a_signal_through_all_its_layers() -> None:
    torch.manual_seed(0)
    model = build_model("vgg11", CIFAR, 10, {"batch_norm": False}).eval()
    with torch.no_grad():
        logits = model(torch.randn(16, *CIFAR))
    assert logits.std(dim=0).mean() > 0.05  # 0.0001 from PyTorch's default start: the inputs would not matter


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_answer_of_a_record_does_not_depend_on_its_batch(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    model = build_model(name, shape, 4, SMALL[name])
    inputs = torch.rand(6, *shape)
    model.train()(inputs)  # moves BatchNorm's running statistics off their start
    model.eval()
    with torch.no_grad():
        together = model(inputs)
        others = model(torch.cat([inputs[2:3], torch.rand(5, *shape) * 9]))[:1]
    torch.testing.assert_close(others, together[2:3])
    assert not torch.allclose(together[0], together[1])


@pytest.mark.parametrize("name", SMALL)
def test_start_depends_on_torch_seed_alone(name: str) -> None:
    def start(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(build_model(name, DIGITS, 5, SMALL[name]).parameters())

    first = start(3)
    torch.rand(7)
    assert torch.equal(first, start(3))
    assert not torch.equal(first, start(4))


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "cnn"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 9), (3, 28, 28)])
def test_odd_image_sizes_work(name: str, shape: tuple[int, ...]) -> None:
    assert build_model(name, shape, 2, SMALL[name]).eval()(torch.rand(3, *shape)).shape == (3, 2)


@pytest.mark.parametrize("name", SMALL)
def test_last_linear_gives_the_logits(name: str) -> None:
    model = build_model(name, DIGITS, 5, SMALL[name]).eval()
    seen: list[torch.Tensor] = []
    last_linear(model).register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
    inputs = torch.rand(2, *DIGITS)
    assert torch.equal(model(inputs), seen[0])


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("resnet18", FEATURES, {}, "needs images.*--model mlp"),
        ("vgg11", FEATURES, {}, "needs images"),
        ("cnn", FEATURES, {}, "needs images"),
        ("resnet18", CIFAR, {"width": 0}, r"width of resnet18 must be an integer from 1 up, got 0"),
        ("resnet18", CIFAR, {"width": True}, r"width of resnet18 must be an integer"),
        ("vgg11", CIFAR, {"width": 2.5}, r"width of vgg11"),
        ("vgg11", CIFAR, {"batch_norm": "yes"}, r"batch_norm of vgg11 must be true or false"),
        ("cnn", CIFAR, {"widths": (8, 8)}, r"widths of cnn must be a list of 3 integers"),
        ("cnn", CIFAR, {"widths": (8, 8, -1)}, r"widths\[2\] of cnn"),
        ("mlp", FEATURES, {"hidden": 64}, r"hidden of mlp must be a list of integers"),
    ],
)
def test_refuses_what_it_cannot_build(name: str, shape: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_model(name, shape, 10, options)
    assert "\n" not in str(caught.value)
