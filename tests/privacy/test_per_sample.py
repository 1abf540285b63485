"""Per-sample gradients: right for every network of ours, refused where a record would be more than itself."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from raymia.errors import InputError
from raymia.models import Classifier, build_model
from raymia.privacy import leave_gradients, per_sample_network, without_coupling

NETWORKS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "cnn": ("cnn", (1, 8, 8), {"widths": [4, 8, 8]}),
    "resnet18": ("resnet18", (3, 16, 16), {"width": 4}),
    "vgg11": ("vgg11", (3, 32, 32), {"width": 4}),
    "vgg11 plain": ("vgg11", (3, 8, 8), {"width": 4, "batch_norm": False}),
    "mlp": ("mlp", (6,), {"hidden": [5]}),
}


def private(name: str) -> Classifier:
    torch.manual_seed(3)
    kind, shape, options = NETWORKS[name]
    model = without_coupling(build_model(kind, shape, 3, options))
    # As the loop lays images' models out.
    return model.to(memory_format=torch.channels_last) if len(shape) == 3 else model


def own_gradient(model: nn.Module, inputs: Tensor, label: Tensor) -> Tensor:
    """A record's gradient by autograd, with nobody beside it."""
    weights = list(model.parameters())
    found = torch.autograd.grad(functional.cross_entropy(model(inputs[None]), label[None]), weights)
    return torch.cat([one.reshape(-1) for one in found])


@pytest.mark.parametrize("name", NETWORKS)
def test_each_records_gradient_is_the_one_it_has_alone(name: str) -> None:
    model = private(name)
    inputs, labels = torch.rand(4, *model.input_shape), torch.tensor([0, 1, 2, 1])
    network = per_sample_network(model)
    leave_gradients(functional.cross_entropy(network(inputs), labels))
    each = torch.cat([weight.grad_sample.reshape(4, -1) for weight in model.parameters()], dim=1)  # type: ignore[attr-defined]
    plain = private(name)
    expected = torch.stack([own_gradient(plain, x, y) for x, y in zip(inputs, labels, strict=True)])
    torch.testing.assert_close(each, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_batch_normalization_becomes_group_normalization() -> None:
    model = private("resnet18")
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    groups = [(layer.num_groups, layer.num_channels) for layer in model.modules() if isinstance(layer, nn.GroupNorm)]
    assert {(4, 4), (8, 8), (16, 16), (32, 32)} == set(groups)
    assert not any(getattr(layer, "inplace", False) for layer in model.modules())


def test_the_network_probed_is_left_as_it_was() -> None:
    model = private("cnn")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    per_sample_network(model)
    assert torch.equal(torch.rand(2), expected)
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None and weight.grad_sample is None for weight in model.parameters())  # type: ignore[attr-defined]


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)


class _PeerAverage(_Net):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.last(hidden - hidden.mean(dim=0))


class _InPlace(_Net):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        hidden += x
        return self.last(hidden)


class _Unused(_Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(x)


class _Tied(_Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.linear(self.first(x), self.first.weight))


class _Counting(_Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))


def batch_norm(**options: Any) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, **options), nn.Linear(4, 3))


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (_PeerAverage(), "network _PeerAverage a record's gradient depends on the other records of its batch"),
        (_InPlace(), r"cannot take the network _InPlace's gradients record by record .*not `out \+= x`"),
        (_Unused(), "network _Unused does not use its weight '.*first.weight'"),
        (_Tied(), "network _Tied's gradient is not the sum of the records'"),
        (_Counting(), "network _Counting keeps 'seen' beside its weights"),
        (batch_norm(affine=False), "keeps '1.running_mean' beside its weights"),
        (batch_norm(affine=False, track_running_stats=False), "depends on the other records of its batch"),
        (nn.Sequential(nn.Linear(4, 3), nn.InstanceNorm1d(3, track_running_stats=True)), "keeps '1.running_mean'"),
    ],
)
def test_a_network_whose_gradients_are_not_the_records_own_is_refused(net: nn.Module, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        per_sample_network(without_coupling(Classifier(net, (4,), 3)))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("dp_sgd: ")


def test_a_second_backward_pass_before_a_step_is_an_error() -> None:
    network = per_sample_network(private("mlp"))
    leave_gradients(network(torch.rand(2, 6)).sum())
    with pytest.raises(ValueError, match="not compatible with grad accumulation"):
        leave_gradients(network(torch.rand(2, 6)).sum())


def test_dropout_and_frozen_weights_are_no_coupling() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Linear(8, 3))
    net[0].bias.requires_grad_(False)
    per_sample_network(without_coupling(Classifier(net, (4,), 3)))
