"""DP-SGD's step by hand: what one record can do, how much noise, who is drawn, and what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from raymia.defenses import (
    DPSGD,
    Dropout,
    EarlyStopping,
    LabelSmoothing,
)
from raymia.models import Classifier, build_model
from raymia.training.defense import Batch, Defense, TrainingSet
from raymia.training.run import Run
from tests.training.conftest import (
    InterruptedRunError,
    MemoryKeeper,
    batch_of,
    equal_bits,
    feature_rows,
    fit,
    image_rows,
    run_by_hand,
    small_config,
)

EXPECTED = 4


def run_of(net: nn.Module, epoch: int = 0, **hyperparameters: Any) -> Run:
    """A run at rate 1 that expects 4 of its 8 rows in a step."""
    values = {"noise_multiplier": 0.0, "batch_size": EXPECTED} | hyperparameters
    return run_by_hand(DPSGD(**values), net=net, epoch=epoch)


def weights_of(run: Run) -> Tensor:
    return torch.cat([weight.detach().reshape(-1).clone() for weight in run.model.parameters()])


def moved(run: Run, batch: Batch) -> Tensor:
    """What one step changes."""
    before = weights_of(run)
    run.model.train()
    run.step(batch, max(len(batch.labels), 1))
    return weights_of(run) - before


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(3, 3)


def small_cnn() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Unflatten(1, (1, 1, 3)), nn.Conv2d(1, 4, (1, 2)), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(8, 3)
    )


def own_gradients(net: nn.Module, batch: Batch) -> Tensor:
    """float[B, P]: each record's gradient by autograd, one at a time, without Opacus."""
    weights = list(net.parameters())
    found = [
        torch.autograd.grad(functional.cross_entropy(net(record[None]), label[None]), weights)
        for record, label in zip(batch.inputs, batch.labels, strict=True)
    ]
    return torch.stack([torch.cat([one.reshape(-1) for one in each]) for each in found])


# Its label is the one it is furthest from.
HUGE = batch_of([[1e4, -2e4, 3e4]], [int(linear()(torch.tensor([1e4, -2e4, 3e4])).argmin())])
MIXED = batch_of([[1e2, -2e2, 3e2], [0.1, 0.2, -0.1], [0.01, 0.0, 0.02], [3.0, 1.0, -2.0]], [int(HUGE.labels), 0, 2, 1])


@pytest.mark.parametrize("bound", [0.1, 1.0, 5.0])
def test_a_record_of_any_size_moves_the_weights_by_no_more_than_the_bound_allows(bound: float) -> None:
    step = moved(run_of(linear(), max_grad_norm=bound), HUGE)
    assert float(step.norm()) == pytest.approx(bound / EXPECTED, rel=1e-4)


@pytest.mark.parametrize(("make", "bound"), [(linear, 1.0), (small_cnn, 2.6)])
def test_each_records_gradient_is_clipped_by_itself_over_all_weights_together(
    make: Callable[[], nn.Module], bound: float
) -> None:
    gradients = own_gradients(make(), MIXED)
    norms = gradients.norm(dim=1, keepdim=True)
    assert 0 < int((norms > bound).sum()) < 4
    expected = -(gradients * (bound / norms).clamp(max=1)).sum(dim=0) / EXPECTED
    torch.testing.assert_close(moved(run_of(make(), max_grad_norm=bound), MIXED), expected, rtol=1e-3, atol=1e-5)


def test_without_a_record_the_step_differs_by_no_more_than_the_bound() -> None:
    whole = moved(run_of(small_cnn(), max_grad_norm=0.3), MIXED)
    for left in range(4):
        kept = [row for row in range(4) if row != left]
        rest = Batch(MIXED.inputs[kept], MIXED.labels[kept], MIXED.targets[kept])
        apart = float((whole - moved(run_of(small_cnn(), max_grad_norm=0.3), rest)).norm())
        assert apart <= 0.3 / EXPECTED * (1 + 1e-4)
        assert apart > 0


def test_without_clipping_or_noise_the_step_is_the_plain_sum_over_the_expected_batch() -> None:
    run = run_of(linear(), max_grad_norm=1e9)
    batch = batch_of([[0.5, -1.0, 0.3], [1.0, 0.0, 2.0]], [0, 2])
    torch.testing.assert_close(moved(run, batch), -own_gradients(linear(), batch).sum(dim=0) / EXPECTED)


def wide() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4000), nn.Linear(4000, 3))


@pytest.mark.parametrize(("noise", "bound"), [(1.0, 1.0), (0.5, 3.0), (4.0, 0.1)])
def test_the_noise_has_the_deviation_that_is_accounted_for(noise: float, bound: float) -> None:
    batch = batch_of([[1.0, -2.0, 3.0]], [1])
    quiet = moved(run_of(wide(), max_grad_norm=bound), batch)
    added = moved(run_of(wide(), noise_multiplier=noise, max_grad_norm=bound), batch) - quiet
    assert added.numel() == 28003
    assert float(added.std()) == pytest.approx(noise * bound / EXPECTED, rel=0.02)
    assert abs(float(added.mean())) < 4 * noise * bound / EXPECTED / 28003**0.5
    # Every weight gets its own.
    assert len(torch.unique(added)) > 27000


EMPTY = Batch(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3))


@pytest.mark.parametrize("make", [wide, small_cnn])
def test_a_batch_that_drew_nobody_gets_its_noise_and_nothing_else(make: Callable[[], nn.Module]) -> None:
    assert not moved(run_of(make()), EMPTY).any()
    run = run_of(make(), noise_multiplier=2.0)
    before = weights_of(run)
    run.model.train()
    assert float(run.step(EMPTY, 0)) == 0
    step = weights_of(run) - before
    assert step.all()
    # The next step forgets it: gradients are not carried over.
    follow = run_of(make(), noise_multiplier=0.0)
    run.model.load_state_dict(follow.model.state_dict())
    run.optimizer.noise_multiplier = 0.0  # type: ignore[attr-defined]
    torch.testing.assert_close(moved(run, HUGE), moved(follow, HUGE))


@pytest.mark.parametrize("physical", [1, 2, 3, 4])
def test_the_physical_batch_does_not_change_the_step(physical: int) -> None:
    whole = run_of(small_cnn(), noise_multiplier=1.0, physical_batch=64)
    parts = run_of(small_cnn(), noise_multiplier=1.0, physical_batch=physical)
    for _ in range(2):
        one, other = moved(whole, MIXED), moved(parts, MIXED)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    if physical == 4:
        assert torch.equal(one, other)


def test_the_loss_is_the_mean_over_the_records() -> None:
    run = run_of(linear(), physical_batch=3)
    expected = functional.cross_entropy(linear()(MIXED.inputs), MIXED.labels).detach()
    torch.testing.assert_close(run.step(MIXED, 4), expected)


def noise_of(steps: int, seed: int = 0) -> list[Tensor]:
    run = run_of(linear(), noise_multiplier=1.0)
    run.seed = seed
    return [moved(run, EMPTY) for _ in range(steps)]


def test_every_step_has_its_own_noise_whatever_the_global_generator_holds() -> None:
    first, second = noise_of(2)
    assert not torch.allclose(first, second)
    torch.manual_seed(99)
    again = noise_of(2)
    torch.testing.assert_close(torch.stack(again), torch.stack([first, second]))
    assert not torch.allclose(noise_of(1, seed=1)[0], first)


def batches_of(run: Run, epochs: int) -> list[NDArray[np.int64]]:
    return [numbers for epoch in range(epochs) for numbers in run.sampler(epoch)]


def test_every_record_is_drawn_by_itself_with_the_same_probability() -> None:
    run = run_of(linear())
    batches = batches_of(run, 500)
    assert len(batches) == 1000
    drawn = np.stack([np.isin(np.arange(8), numbers) for numbers in batches])
    np.testing.assert_allclose(drawn.mean(axis=0), 0.5, atol=0.07)
    # A fixed batch size, or a shuffle, would tie the records together.
    assert np.var([len(numbers) for numbers in batches]) == pytest.approx(8 * 0.25, rel=0.2)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(8)).max() < 0.15
    assert all((np.diff(numbers) > 0).all() and numbers.dtype == np.int64 for numbers in batches)


def test_the_draws_come_from_the_seed_and_the_epoch() -> None:
    run = run_of(linear())
    for one, other in zip(run.sampler(3), run.sampler(3), strict=True):
        np.testing.assert_array_equal(one, other)
    other_epoch = [list(numbers) for numbers in run.sampler(4)]
    assert [list(numbers) for numbers in run.sampler(3)] != other_epoch


@pytest.mark.parametrize(("asked", "study", "rate", "steps"), [(None, 128, 128 / 1000, 8), (50, 128, 0.05, 20)])
def test_an_epoch_has_as_many_steps_as_a_plain_one(asked: int | None, study: int, rate: float, steps: int) -> None:
    assert DPSGD(noise_multiplier=1.0, batch_size=asked).sampling(1000, study) == (pytest.approx(rate), steps)


def test_a_batch_as_large_as_the_set_is_the_set() -> None:
    assert DPSGD(noise_multiplier=1.0).sampling(60, 128) == (1.0, 1)
    run = run_of(linear(), batch_size=100)
    assert [list(numbers) for numbers in run.sampler(0)] == [list(range(8))]


class _Sizes(Defense):
    """Writes down the batches' sizes, the rates and the state of the model's precision."""

    name = "sizes"
    per_sample = True

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.rates: list[float] = []

    def update(self, run: Run, batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
        self.sizes.append(len(batch.labels))
        self.rates.append(run.optimizer.param_groups[0]["lr"])
        return inner()


PRIVATE = DPSGD(noise_multiplier=0.8, batch_size=2, physical_batch=3, learning_rate=0.2)
BESIDE = (Dropout(rate=0.3), LabelSmoothing(epsilon=0.1), EarlyStopping(fraction=1.0))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_training_resumed_at_any_epoch_equals_an_undisturbed_one(optimizer: str) -> None:
    config = small_config(augmentation="crop_flip", optimizer=optimizer)
    sizes = _Sizes()
    undisturbed = fit(image_rows(), config, PRIVATE, *BESIDE, sizes)
    assert 0 in sizes.sizes
    assert max(sizes.sizes) > 3
    for stop in (1, 3, 5):
        keeper = MemoryKeeper(stop_at=stop)
        with pytest.raises(InterruptedRunError):
            fit(image_rows(), config, PRIVATE, *BESIDE, keeper=keeper)
        keeper.stop_at = None
        torch.manual_seed(stop)
        fit(image_rows(), config, PRIVATE, *BESIDE, keeper=keeper)
        assert keeper.reported == [1, 2, 3, 4, 5, 6]
        assert equal_bits(keeper.weights(6), undisturbed.weights(6))
        assert keeper.histories == undisturbed.histories


def test_seeds_differ_and_repeat() -> None:
    one = fit(image_rows(), small_config(epochs=1), PRIVATE).weights(1)
    assert equal_bits(one, fit(image_rows(), small_config(epochs=1), PRIVATE).weights(1))
    assert not equal_bits(one, fit(image_rows(), small_config(epochs=1), PRIVATE, seed=6).weights(1))


def test_the_learning_rate_of_its_own_follows_the_schedule() -> None:
    sizes = _Sizes()
    fit(feature_rows(16), small_config(epochs=4, schedule="step", milestones=(0.5,), warmup=0), PRIVATE, sizes)
    np.testing.assert_allclose(sizes.rates, [0.2] * 16 + [0.02] * 16)


def test_bf16_studies_train_it_in_fp32() -> None:
    plain = fit(image_rows(), small_config(epochs=1), PRIVATE).weights(1)
    assert equal_bits(fit(image_rows(), small_config(epochs=1, precision="bf16"), PRIVATE).weights(1), plain)


def test_the_weights_load_into_the_changed_model_by_their_plain_names() -> None:
    weights = fit(image_rows(), small_config(epochs=1), PRIVATE).weights(1)
    model = PRIVATE.architecture(build_model("cnn", (1, 8, 8), 3, {"widths": [4, 8, 8]}))
    model.load_state_dict(weights)
    assert isinstance(model.net[1], nn.GroupNorm)  # type: ignore[index]
    assert not any("running" in name for name in weights)


class _PlainGroupNorm(Defense):
    """The same network and normalization, trained without DP-SGD."""

    name = "plain_group_norm"

    def architecture(self, model: Classifier) -> Classifier:
        return PRIVATE.architecture(model)

    def prepare(self, run: Run) -> None:
        run.model.set_normalization([0.5] * 3, [0.25] * 3)


def test_of_whole_color_batches_without_noise_and_clipping_it_is_plain_training() -> None:
    rng = np.random.default_rng(0)
    rows = TrainingSet(rng.integers(0, 256, (20, 8, 8, 3)).astype(np.uint8), rng.integers(0, 3, 20))
    config = small_config(epochs=4, batch_size=20, checkpoint_every=2)
    private = DPSGD(noise_multiplier=0.0, max_grad_norm=1e9, physical_batch=8)
    found, expected = (fit(rows, config, one).weights(4) for one in (private, _PlainGroupNorm()))
    assert list(found) == list(expected)
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name], rtol=1e-3, atol=1e-5)


def test_nothing_of_the_members_is_in_the_normalization() -> None:
    images = fit(image_rows(), small_config(epochs=1), PRIVATE).weights(1)
    assert (images["mean"].ravel().tolist(), images["std"].ravel().tolist()) == ([0.5], [0.25])
    features = fit(feature_rows(22), small_config(epochs=1), PRIVATE).weights(1)
    assert (features["mean"].tolist(), features["std"].tolist()) == ([0.0] * 4, [1.0] * 4)


def test_it_learns_where_the_noise_is_small() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    rows = TrainingSet((4 * np.eye(4)[labels] + rng.normal(size=(60, 4))).astype(np.float32), labels)
    losses = [
        fit(rows, small_config(epochs=12, learning_rate=0.3), DPSGD(noise_multiplier=noise)).histories[12][-1]
        for noise in (0.01, 20.0)
    ]
    assert losses[0] < 0.3 < losses[1]
