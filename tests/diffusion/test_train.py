"""The denoiser's training: what it minimizes, that it learns, and that it can stop and go on."""

import hashlib
import io
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from raymia.config import DiffusionConfig
from raymia.diffusion import train as module
from raymia.diffusion.denoiser import Denoiser, build_denoiser
from raymia.diffusion.sampler import Sampler
from raymia.diffusion.train import GeneratorPlan, rate_factor, train_denoiser
from raymia.errors import DivergedError, InputError
from raymia.training.loop import State
from raymia.training.run import Alone, Group
from tests.training.conftest import InterruptedRunError, equal_bits, packed

CPU = torch.device("cpu")


@dataclass
class MemoryKeeper:
    """Keeps bytes, as a store does. stop_at: crash once so many iterations are done."""

    stop_at: int | None = None
    checkpoint: bytes | None = None
    saved: list[int] = field(default_factory=list)
    reported: list[int] = field(default_factory=list)
    weights: State = field(default_factory=dict)
    history: list[float] = field(default_factory=list)
    ended: int | None = None

    def load(self) -> State | None:
        return None if self.checkpoint is None else torch.load(io.BytesIO(self.checkpoint), weights_only=True)

    def save(self, state: State) -> None:
        self.checkpoint = packed(state)
        self.saved.append(state["iteration"])

    def snapshot(self, epoch: int, weights: State, history: list[float]) -> None:
        self.ended, self.history = epoch, list(history)
        self.weights = torch.load(io.BytesIO(packed(weights)), weights_only=True)

    def report(self, epoch: int) -> None:
        self.reported.append(epoch)
        if self.stop_at is not None and epoch >= self.stop_at:
            raise InterruptedRunError


class Worker:
    """One worker of several, whose gradients stay its own. seen: its gradients, in the order they came."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self.seen: list[Tensor] = []

    def wrap(self, model: nn.Module) -> nn.Module:
        for parameter in model.parameters():
            parameter.register_hook(lambda gradient: self.seen.append(gradient.clone()))
        return model

    def mean(self, value: float) -> float:
        return value


def small_plan(count: int = 11, size: int = 4, precision: str = "fp32", **changes: Any) -> GeneratorPlan:
    """Random images in batches that do not divide them, with everything random switched on."""
    values: dict[str, Any] = {
        "channels": (4, 8),
        "attention": (1,),
        "dropout": 0.2,
        "timesteps": 40,
        "beta_end": 0.3,
        "iterations": 12,
        "batch_size": 4,
        "learning_rate": 0.01,
        "flip": True,
        "checkpoint_every": 4,
    }
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, size, size, 1), dtype=np.uint8)
    return GeneratorPlan(images, np.arange(count) % 3, 3, DiffusionConfig(**(values | changes)), 5, precision)


def fit(plan: GeneratorPlan, keeper: MemoryKeeper | None = None, group: Group | None = None) -> MemoryKeeper:
    keeper = keeper or MemoryKeeper()
    train_denoiser(plan, keeper, group or Alone(), CPU)
    return keeper


# --- stopping and going on ---


@pytest.mark.parametrize(
    ("precision", "changes"),
    [("fp32", {}), ("bf16", {"ema": 0.0, "conditional": False, "decay": "constant"})],
)
def test_a_training_resumed_at_any_checkpoint_equals_an_undisturbed_one(
    precision: str, changes: dict[str, Any]
) -> None:
    plan = small_plan(precision=precision, **changes)
    undisturbed = fit(plan)
    assert undisturbed.saved == [4, 8]
    for stop in (4, 8):
        keeper = MemoryKeeper(stop_at=stop)
        with pytest.raises(InterruptedRunError):
            fit(plan, keeper)
        assert keeper.ended is None
        keeper.stop_at = None
        torch.manual_seed(stop)  # whatever the other process did to the global generator must not matter
        fit(plan, keeper)
        assert keeper.reported == [4, 8, 12], "iterations were trained twice"
        assert equal_bits(keeper.weights, undisturbed.weights)
        assert keeper.history == undisturbed.history


def test_a_crash_between_checkpoints_loses_only_what_came_after_the_last() -> None:
    plan, keeper = small_plan(), MemoryKeeper()
    with pytest.raises(InterruptedRunError):
        fit(plan, keeper, _Crashing(after=6))
    assert keeper.saved == [4]
    fit(plan, keeper)
    assert equal_bits(keeper.weights, fit(plan).weights)


class _Crashing(Alone):
    """Crashes in the middle of a stretch."""

    def __init__(self, after: int) -> None:
        self._left = after

    def wrap(self, model: nn.Module) -> nn.Module:
        model.register_forward_pre_hook(self._count)
        return model

    def _count(self, *_: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise InterruptedRunError


def test_where_checkpoints_fall_does_not_change_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small_plan()
    expected = fit(plan)
    rare = fit(small_plan(checkpoint_every=5))
    assert (rare.saved, rare.reported, len(rare.history)) == ([5, 10], [5, 10, 12], 3)
    assert equal_bits(rare.weights, expected.weights)
    monkeypatch.setattr(module, "_STRETCH", 3)
    often = fit(plan)
    assert often.reported == [3, 4, 7, 8, 11, 12]
    assert equal_bits(often.weights, expected.weights)
    np.testing.assert_allclose(often.history, expected.history, rtol=1e-12)


def test_seeds_differ_and_repeat_and_leave_everything_else_alone() -> None:
    plan = small_plan(iterations=3)
    before = hashlib.sha256(plan.images.tobytes()).hexdigest()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = fit(plan)
    assert torch.equal(torch.rand(3), expected)
    assert hashlib.sha256(plan.images.tobytes()).hexdigest() == before
    assert equal_bits(first.weights, fit(plan).weights)
    assert not equal_bits(first.weights, fit(replace(plan, seed=6)).weights)


def test_the_kept_weights_are_a_denoisers() -> None:
    plan = small_plan(iterations=3)
    keeper = fit(plan)
    assert keeper.ended == 3
    denoiser = build_denoiser(plan.config, (1, 4, 4), 3)
    denoiser.load_state_dict(keeper.weights)


# --- what a step sees: a network that writes it down ---


@dataclass(frozen=True)
class Seen:
    noisy: Tensor
    timesteps: Tensor
    labels: Tensor


class Recorder(nn.Module):
    """Predicts one number for all pixels, 0 at first, and remembers what it was asked. change: of each prediction."""

    def __init__(self, change: Callable[[int, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))
        self.seen: list[Seen] = []
        self._change = change or (lambda call, prediction: prediction)

    def forward(self, noisy: Tensor, timesteps: Tensor, labels: Tensor, return_dict: bool) -> tuple[Tensor]:
        self.seen.append(Seen(noisy.detach().clone(), timesteps, labels))
        return (self._change(len(self.seen), torch.zeros_like(noisy) + self.level),)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return install(Recorder(), monkeypatch)


def install(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.setattr(
        module, "build_denoiser", lambda config, shape, classes: Denoiser(recorder, shape, classes, True)
    )
    return recorder


def test_every_record_is_seen_equally_often_in_a_new_order(recorder: Recorder) -> None:
    plan = replace(small_plan(iterations=11, null_probability=0.0), labels=np.arange(11), classes=11)
    fit(plan)
    rows = torch.cat([seen.labels for seen in recorder.seen]).numpy().reshape(4, 11)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(11), (4, 1)))
    assert len(np.unique(rows, axis=0)) == 4


def test_labels_are_left_out_one_by_one_as_often_as_asked(recorder: Recorder) -> None:
    fit(small_plan(count=60, batch_size=50, iterations=40, null_probability=0.3))
    dropped = torch.stack([seen.labels for seen in recorder.seen]).numpy() == 3
    # 2,000 draws: a deviation of 0.01; of a batch's mean 0.065.
    assert abs(dropped.mean() - 0.3) < 0.04
    assert 0.03 < dropped.mean(axis=1).std() < 0.1


def test_timesteps_are_uniform_and_differ_within_a_batch(recorder: Recorder) -> None:
    fit(small_plan(count=60, batch_size=50, iterations=40))
    timesteps = torch.stack([seen.timesteps for seen in recorder.seen]).numpy()
    counts = np.bincount(timesteps.ravel(), minlength=40)
    assert len(counts) == 40
    assert 20 < counts.min() <= counts.max() < 90  # 50 each, deviation 7
    assert (timesteps.std(axis=1) > 5).all()


@pytest.mark.parametrize("flip", [True, False])
def test_images_come_in_minus_one_to_one_and_flipped_if_asked(recorder: Recorder, flip: bool) -> None:
    """Almost without noise."""
    plan = small_plan(iterations=10, flip=flip, beta_start=1e-9, beta_end=2e-9, null_probability=0.0)
    plan = replace(plan, labels=np.arange(11), classes=11)
    fit(plan)
    mirrored = []
    for seen in recorder.seen:
        for noisy, label in zip(seen.noisy.numpy(), seen.labels.tolist(), strict=True):
            image = plan.images[label, ..., 0] / 127.5 - 1
            mirrored.append(np.allclose(noisy[0], image[:, ::-1], atol=0.01))
            assert mirrored[-1] or np.allclose(noisy[0], image, atol=0.01)
    assert (8 < sum(mirrored) < 32) if flip else not any(mirrored)


def test_the_loss_is_the_mean_square_over_pixels_and_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pure noise: the noisy image is the noise, up to a signal of 3%."""
    recorder = install(Recorder(), monkeypatch)
    plan = small_plan(iterations=6, checkpoint_every=4, beta_start=0.999, beta_end=0.9991, learning_rate=1e-30)
    keeper = fit(plan)
    losses = [float(seen.noisy.square().mean()) for seen in recorder.seen]
    np.testing.assert_allclose(keeper.history, [np.mean(losses[:4]), np.mean(losses[4:])], rtol=0.03)
    assert abs(np.mean(losses) - 1) < 0.3


@contextmanager
def at_each_step(look: Callable[[torch.optim.Optimizer], None], after: bool) -> Iterator[None]:
    """Look at the optimizer before or after each of its steps."""
    register = register_optimizer_step_post_hook if after else register_optimizer_step_pre_hook
    handle = register(lambda optimizer, args, kwargs: look(optimizer))
    try:
        yield
    finally:
        handle.remove()


def test_gradients_are_clipped_to_their_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    def norms(clip: float) -> list[float]:
        found: list[float] = []

        def look(optimizer: torch.optim.Optimizer) -> None:
            gradients = [values.grad for group in optimizer.param_groups for values in group["params"]]
            found.append(math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients)))

        with at_each_step(look, after=False):
            fit(small_plan(iterations=4, gradient_clip=clip))
        return found

    free = norms(1e9)
    assert min(free) > 0.1
    np.testing.assert_allclose(norms(0.1), [0.1] * 4, rtol=1e-4)


@pytest.mark.parametrize("decay", [0.5, 0.0])
def test_the_kept_weights_are_the_moving_average(recorder: Recorder, decay: float) -> None:
    levels: list[float] = []
    with at_each_step(lambda optimizer: levels.append(recorder.level.item()), after=True):
        keeper = fit(small_plan(iterations=30, ema=decay, learning_rate=0.1))
    average = levels[0]
    for step, level in enumerate(levels[1:], start=1):
        share = min(decay, (1 + step) / (10 + step))
        average = share * average + (1 - share) * level
    assert len(set(levels)) == 30
    assert keeper.weights["net.level"].item() == pytest.approx(average if decay else levels[-1], rel=1e-4)


def test_rates_follow_the_schedule(recorder: Recorder) -> None:
    rates: list[float] = []
    plan = small_plan(iterations=20, warmup=0.2, learning_rate=0.5)
    with at_each_step(lambda optimizer: rates.append(optimizer.param_groups[0]["lr"]), after=False):
        fit(plan)
    np.testing.assert_allclose(rates[:5], [0.1, 0.2, 0.3, 0.4, 0.5], rtol=1e-12)
    assert rates[12] == pytest.approx(0.25)
    assert 0 < rates[-1] < 0.01
    assert (np.diff(rates[4:]) < 0).all()
    constant = plan.config.model_copy(update={"decay": "constant", "warmup": 0.0})
    assert {rate_factor(constant, iteration) for iteration in range(20)} == {1.0}


# --- several workers ---


@pytest.mark.parametrize("world", [2, 3])
def test_workers_gradients_average_to_a_single_workers(world: int) -> None:
    """Batches of 5, so that shares differ in size. A rate of nearly 0 keeps the workers at the same weights."""
    plan = small_plan(batch_size=5, dropout=0.0, iterations=2, learning_rate=1e-30)
    alone = Worker(0, 1)
    history = fit(plan, group=alone).history
    workers = [Worker(rank, world) for rank in range(world)]
    keepers = [fit(plan, group=worker) for worker in workers]
    assert alone.seen
    for index, gradient in enumerate(alone.seen):
        mean = torch.stack([worker.seen[index] for worker in workers]).mean(dim=0)
        torch.testing.assert_close(mean, gradient, rtol=1e-4, atol=1e-6)
    differ = [not torch.allclose(a, b) for a, b in zip(workers[0].seen, workers[1].seen, strict=True)]
    assert any(differ)
    assert [keeper.ended for keeper in keepers] == [2] + [None] * (world - 1)
    assert not any(keeper.saved for keeper in keepers[1:])
    assert history[0] > 0


def test_workers_drop_out_differently_and_repeatably(monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(rank: int) -> list[float]:
        """What a layer of dropout would draw in each iteration."""
        found: list[float] = []

        def draw(call: int, prediction: Tensor) -> Tensor:
            found.append(torch.rand(()).item())
            return prediction

        install(Recorder(draw), monkeypatch)
        fit(small_plan(iterations=3), group=Worker(rank, 2))
        return found

    first, again, other = draws(0), draws(0), draws(1)
    assert first == again
    assert len({*first, *other}) == 6


_TWO_WORKERS = """
import sys
import torch
from torch import distributed
from raymia.engine.group import TorchGroup
from raymia.diffusion.train import train_denoiser
from tests.diffusion.test_train import CPU, MemoryKeeper, small_plan

torch.set_num_threads(1)
folder, rank = sys.argv[1], int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
keeper = MemoryKeeper()
plan = small_plan(batch_size=5, dropout=0.0, iterations=6, learning_rate=1e-3)
train_denoiser(plan, keeper, TorchGroup(CPU), CPU)
torch.save({"weights": keeper.weights, "history": keeper.history}, f"{folder}/rank-{rank}.pt")
distributed.barrier()
distributed.destroy_process_group()
"""


def predictions(weights: State) -> Tensor:
    denoiser = build_denoiser(small_plan().config, (1, 4, 4), 3).eval()
    denoiser.load_state_dict(weights)
    noisy = torch.randn(4, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        noise: Tensor = denoiser(noisy, torch.tensor([0, 13, 26, 39]), torch.tensor([0, 1, 2, 3]))
    return noise


@pytest.mark.slow
def test_two_workers_train_what_one_does(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error::UserWarning", "-c", _TWO_WORKERS, str(tmp_path)]
    workers = [
        subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        for rank in (0, 1)
    ]
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    found = torch.load(tmp_path / "rank-0.pt", weights_only=True)
    expected = fit(small_plan(batch_size=5, dropout=0.0, iterations=6, learning_rate=1e-3))
    # Not the weights: Adam follows the rounding of gradients that should be 0, such as a bias's before a group norm.
    torch.testing.assert_close(predictions(found["weights"]), predictions(expected.weights), rtol=1e-3, atol=1e-4)
    untrained = fit(small_plan(batch_size=5, dropout=0.0, iterations=6, learning_rate=1e-30))
    assert not torch.allclose(predictions(untrained.weights), predictions(expected.weights), rtol=0.01, atol=0.01)
    np.testing.assert_allclose(found["history"], expected.history, rtol=1e-4)
    assert not torch.load(tmp_path / "rank-1.pt", weights_only=True)["weights"]


# --- bad input, bad luck ---


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(InputError) as raised:
        fit(small_plan(count=7, batch_size=8))
    assert str(raised.value).startswith("diffusion.batch_size is 8, and a generator has only 7 images to train on: set")
    fit(small_plan(count=8, batch_size=8, iterations=1))


def test_a_batch_too_small_for_its_workers_is_refused() -> None:
    with pytest.raises(InputError, match=r"^diffusion\.batch_size is 4 for 5 workers: set it to 5 or more"):
        fit(small_plan(), group=Worker(0, 5))


@pytest.mark.parametrize(("call", "checkpoint_every"), [(1, 4), (7, 4), (7, 100), (12, 4)])
def test_a_loss_that_is_not_finite_names_its_iteration(
    call: int, checkpoint_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(Recorder(lambda now, prediction: prediction * (math.nan if now == call else 1.0)), monkeypatch)
    keeper = MemoryKeeper()
    with pytest.raises(DivergedError) as raised:
        fit(small_plan(checkpoint_every=checkpoint_every), keeper)
    message = str(raised.value)
    assert message.startswith(f"the denoiser's training diverged at iteration {call}: the loss is nan")
    assert message.endswith("lower diffusion.learning_rate")
    assert keeper.ended is None


def test_a_last_step_that_breaks_the_weights_is_noticed(recorder: Recorder) -> None:
    recorder.level.register_hook(lambda gradient: gradient * (math.nan if len(recorder.seen) == 12 else 1.0))
    keeper = MemoryKeeper()
    with pytest.raises(DivergedError, match="iteration 12: the weights are no longer finite"):
        fit(small_plan(), keeper)
    assert keeper.ended is None


def test_another_workers_divergence_stops_this_one_too(recorder: Recorder) -> None:
    class Told(Worker):
        def mean(self, value: float) -> float:
            return math.nan

    with pytest.raises(DivergedError, match="iteration 4: the loss is nan"):
        fit(small_plan(), group=Told(0, 2))


# --- learning ---


def test_a_trained_denoiser_draws_digits() -> None:
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    plan = GeneratorPlan(
        images,
        digits.target.astype(np.int64),
        10,
        DiffusionConfig(
            channels=(16, 32), attention=(), dropout=0.0, timesteps=100, beta_end=0.2, iterations=150, batch_size=32,
            learning_rate=4e-3, checkpoint_every=50, ema=0.95, sampler_steps=10,
        ),
        0,
        "fp32",
    )  # fmt: skip
    keeper = fit(plan)
    assert keeper.history[-1] < 0.6 * keeper.history[0]
    denoiser = build_denoiser(plan.config, (1, 8, 8), 10)
    untrained = build_denoiser(plan.config, (1, 8, 8), 10)
    denoiser.load_state_dict(keeper.weights)
    # Nearest class mean: chance is 10%.
    means = np.stack([images[plan.labels == label].mean(axis=0) for label in range(10)])
    labels = np.arange(60) % 10

    def agreement(denoiser: Denoiser) -> float:
        drawn = Sampler(denoiser, plan.config, 2.0, 0, CPU).sample(np.arange(60), labels)
        distances = ((drawn[:, None].astype(float) - means) ** 2).sum(axis=(2, 3, 4))
        return float((distances.argmin(axis=1) == labels).mean())

    assert agreement(denoiser) > 0.8
    assert agreement(untrained) < 0.3
