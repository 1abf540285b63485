"""HAMP: soft labels, the entropy's weight on the authors' scale, and answers with the confidence of noise."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from raymia.defenses import HAMP, LabelSmoothing, build_defense
from raymia.defenses.hamp import soft_label
from raymia.errors import InputError
from raymia.models import Classifier
from raymia.recipes.recipe import Bench, make
from raymia.records import Records
from raymia.training.defense import Composed, TrainingSet
from tests.recipes.conftest import CountingStore, study_of
from tests.training.conftest import a_context, batch_of, run_by_hand


@pytest.mark.parametrize(
    ("classes", "gamma", "top", "rest"),
    [(10, 0.95, 0.26, 0.0822222), (100, 0.5, 0.64, 0.36 / 99), (10, 0.0, 1.0, 0.0)],
)
def test_the_published_soft_labels(classes: int, gamma: float, top: float, rest: float) -> None:
    assert soft_label(classes, gamma) == pytest.approx((top, rest), abs=1e-6)


@given(st.integers(2, 200), st.floats(0, 0.97))
def test_a_soft_label_has_the_entropy_asked_for_and_hardly_more(classes: int, gamma: float) -> None:
    top, rest = soft_label(classes, gamma)

    def entropy(top: float) -> float:
        p = np.append(np.full(classes - 1, (1 - top) / (classes - 1)), top)
        return float(-(p[p > 0] * np.log(p[p > 0])).sum())

    assert top + (classes - 1) * rest == pytest.approx(1)
    assert top > rest
    assert entropy(top) >= gamma * np.log(classes) - 1e-9
    assert top == 1 or entropy(top + 0.01) < gamma * np.log(classes)


def test_a_gamma_that_leaves_no_label_is_refused_before_anything_trains() -> None:
    with pytest.raises(InputError, match=r"^hamp.gamma: 0.9999 leaves no soft label that still tells one of 2 classes"):
        HAMP(gamma=0.9999).requires(a_context(2))
    HAMP(gamma=0.95).requires(a_context(10))


def test_targets_are_the_soft_labels_and_build_on_those_before() -> None:
    rows = TrainingSet(np.zeros((2, 3), dtype=np.float32), np.array([3, 0]))
    targets = HAMP(gamma=0.95).training_set(a_context(10), {}, rows).targets
    assert targets is not None
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets[0], np.where(np.arange(10) == 3, 0.26, 0.08222), atol=1e-5)
    both = Composed((LabelSmoothing(epsilon=0.09), HAMP(gamma=0.95))).training_set(a_context(10), {}, rows).targets
    assert both is not None
    spread = 0.26 - 0.0822222
    np.testing.assert_allclose(both[0], np.where(np.arange(10) == 3, 0.91, 0.01) * spread + 0.0822222, atol=1e-5)


def test_the_loss_is_the_authors_times_the_number_of_classes() -> None:
    """Theirs: `kl_div`'s default mean, over records and classes, less α times the mean entropy."""
    logits = np.array([[2.0, -1.0, 0.5, 0.0], [0.3, -0.4, 1.1, 0.2]])
    batch = batch_of(logits, [0, 2], classes=4)
    rows = TrainingSet(np.zeros((2, 3), dtype=np.float32), np.array([0, 2]))
    soft = HAMP(gamma=0.8).training_set(a_context(4), {}, rows).targets
    assert soft is not None
    batch.targets = torch.from_numpy(soft)
    run = run_by_hand(HAMP(gamma=0.8, alpha=0.05), classes=4)

    free = batch.inputs.clone().requires_grad_()
    with pytest.warns(UserWarning, match="reduction"):
        theirs = functional.kl_div(free.log_softmax(dim=1), batch.targets)
    posteriors = free.softmax(dim=1)
    theirs = theirs + 0.05 * (posteriors * posteriors.log()).sum(dim=1).mean()
    theirs.backward()

    ours = run.losses(batch).total
    entropy = -(soft * np.log(soft)).sum(axis=1).mean()
    assert ours.item() == pytest.approx(4 * theirs.item() + entropy, rel=1e-5)
    ours.backward()
    [bias] = run.model.parameters()
    assert bias.grad is not None
    assert free.grad is not None
    np.testing.assert_allclose(bias.grad.numpy(), 4 * free.grad.sum(dim=0).numpy(), rtol=1e-4, atol=1e-6)


class Spying(nn.Module):
    """Answers with the first numbers of its input, and keeps what it was asked."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.asked: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked.append(inputs)
        return 5 * inputs.flatten(1)[:, : self.classes]


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


def release(inputs: Tensor, **hyperparameters: Any) -> tuple[Tensor, Spying]:
    model = Spying(10)
    return HAMP(gamma=0.9, **hyperparameters).release(model, inputs, {}), model


@given(st.integers(0, 1000))
def test_answers_rank_classes_as_the_model_does_with_the_confidences_of_noise(seed: int) -> None:
    inputs = images(6, seed)
    released, model = release(inputs)
    asked, noise = model.asked
    assert torch.equal(asked, inputs)
    plain = 5 * inputs.flatten(1)[:, :10]
    assert torch.equal(released.argmax(dim=1), plain.argmax(dim=1))
    in_order = released.gather(1, plain.argsort(dim=1))
    assert (in_order[:, 1:] >= in_order[:, :-1]).all()
    expected = (5 * noise.flatten(1)[:, :10]).log_softmax(dim=1).sort(dim=1).values
    torch.testing.assert_close(released.sort(dim=1).values, expected)
    torch.testing.assert_close(released.exp().sum(dim=1), torch.ones(6))


class Flat(nn.Module):
    """Nearly sure of the last class for images of sevens, of none for others."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.zeros(len(inputs), 3) + torch.tensor([0.0, 0.0, 1e-3]) * (inputs[:, :1, 0, 0] == 7)


def test_the_label_stays_where_noise_gets_equal_confidences() -> None:
    inputs = torch.full((4, 1, 2, 2), 7.0)
    released = HAMP(gamma=0.9).release(Flat(), inputs, {})
    assert released.argmax(dim=1).tolist() == [2] * 4
    torch.testing.assert_close(released, torch.full((4, 3), float(np.log(1 / 3))))


def test_noise_is_uniform_pixels_drawn_from_the_query_alone() -> None:
    inputs = images(200)
    together, model = release(inputs)
    noise = model.asked[1]
    assert noise.shape == inputs.shape
    assert torch.equal((noise * 255).round() / 255, noise)
    assert float(noise.min()) == 0
    assert float(noise.max()) == 1
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(noise.std()) == pytest.approx(1 / 12**0.5, abs=0.01)
    assert len({row.numpy().tobytes() for row in noise}) == 200
    # Asked again, alone, in another layout or order: the same.
    for rows in (torch.arange(200), torch.tensor([7]), torch.arange(199, -1, -1)):
        again, _ = release(inputs[rows].contiguous(memory_format=torch.channels_last))
        assert torch.equal(again, together[rows])


def test_features_get_noise_of_the_members_scale() -> None:
    model = Classifier(Spying(3), (4,), 3)
    model.set_normalization([10.0, -5.0, 0.0, 100.0], [1.0, 2.0, 0.5, 30.0])
    inputs = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    HAMP(gamma=0.5).release(model, inputs, {})
    _, noise = model.net.asked  # type: ignore[misc]  # already normalized by the model
    np.testing.assert_allclose(noise.mean(dim=0).numpy(), 0, atol=0.2)
    np.testing.assert_allclose(noise.std(dim=0).numpy(), 1, atol=0.15)


def test_without_replacement_the_model_answers_itself() -> None:
    inputs = images(3)
    released, model = release(inputs, replace=False)
    assert len(model.asked) == 1
    assert torch.equal(released, 5 * inputs.flatten(1)[:, :10])


def test_one_training_serves_both_releases(digits: Records, store: CountingStore) -> None:
    space = {"hamp": {"gamma": 0.9, "replace": [True, False]}}
    blueprint, [_, replaced, plain] = study_of(digits, space, plan__targets=1, training__epochs=3)
    results = [blueprint.result(setting) for setting in (replaced, plain)]
    bench = Bench(digits, store)
    make(results[0], bench)
    store.written.clear()
    make(results[1], bench)
    assert not [name for name in store.written if name.startswith("models/")]
    replaced_logits, plain_logits = (one.targets[0].signals.open(store).logits_NQC[:, 0] for one in results)
    assert replaced_logits.argmax(axis=1).tolist() == plain_logits.argmax(axis=1).tolist()
    assert np.abs(replaced_logits - plain_logits).max() > 0.1
    np.testing.assert_allclose(np.exp(replaced_logits).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "hamp.gamma: is missing"),
        ({"gamma": 1.0}, "hamp.gamma: input should be less than 1"),
        ({"gamma": 0.5, "alpha": -1}, "hamp.alpha: "),
        ({"gamma": 0.5, "replace": 3}, "hamp.replace: "),
    ],
)
def test_bad_hyperparameters_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_defense("hamp", given)
    assert "\n" not in str(caught.value)
