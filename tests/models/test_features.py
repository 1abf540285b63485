"""Features are what the last linear layer is given, and reading them leaves the classifier as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from raymia.errors import InputError
from raymia.models import Classifier, build_model, last_linear
from raymia.models.features import features

CPU = torch.device("cpu")


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["cnn", "resnet18", "vgg11", "mlp"])
def test_the_last_layer_turns_them_into_the_logits(name: str) -> None:
    torch.manual_seed(0)
    shape = (3, 32, 32) if name == "vgg11" else (3, 8, 8)
    model = build_model(name, shape, 5)
    model.set_normalization([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    inputs = np.random.default_rng(0).integers(0, 256, (6, *shape[1:], 3), dtype=np.uint8)
    found = features(model, inputs, CPU)
    layer = last_linear(model)
    assert found.dtype == np.float32
    assert found.shape == (6, layer.in_features)
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(inputs).permute(0, 3, 1, 2) / 255)
        torch.testing.assert_close(layer(torch.from_numpy(found)), logits)


def test_of_vectors_and_of_a_linear_model() -> None:
    model = build_model("mlp", (4,), 3, {"hidden": []})
    model.set_normalization([1, 2, 3, 4], [2, 2, 2, 2])
    inputs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert features(model, inputs, CPU) == pytest.approx((inputs - [1, 2, 3, 4]) / 2, abs=1e-6)


def test_batches_change_nothing_and_keep_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("cnn", (3, 8, 8), 4, {"widths": [4, 8, 8]})
    inputs = images(11)
    whole = features(model, inputs, CPU)
    monkeypatch.setattr("raymia.models.features._BATCH", 4)
    np.testing.assert_allclose(features(model, inputs, CPU), whole, rtol=1e-5, atol=1e-6)
    assert len(np.unique(whole, axis=0)) == 11


def test_the_classifier_stays_as_it_was() -> None:
    model = build_model("cnn", (3, 8, 8), 4, {"widths": [4, 8, 8]}).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    features(model, images(9), CPU)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not last_linear(model)._forward_pre_hooks
    features(model.eval(), images(9), CPU)
    assert not model.training


def test_an_error_in_the_network_leaves_no_hook_and_the_mode() -> None:
    model = build_model("cnn", (3, 8, 8), 4, {"widths": [4, 8, 8]}).train()
    with pytest.raises(RuntimeError):
        features(model, np.zeros((2, 8, 8, 1), np.uint8)[..., [0, 0]], CPU)
    assert model.training
    assert not last_linear(model)._forward_pre_hooks


class Pixelwise(nn.Module):
    """A network whose last linear layer is given every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(inputs.permute(0, 2, 3, 1)).mean(dim=(1, 2))
        return logits


def test_refuses_networks_whose_features_cannot_be_read() -> None:
    with pytest.raises(InputError, match="one vector a record"):
        features(Classifier(Pixelwise(), (3, 8, 8), 4), images(2), CPU)
    headless = Classifier(nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten()), (3, 8, 8), 4)
    with pytest.raises(InputError, match="has no features"):
        features(headless, images(2), CPU)
    with pytest.raises(InputError, match="no records"):
        features(build_model("cnn", (3, 8, 8), 4), images(0), CPU)
