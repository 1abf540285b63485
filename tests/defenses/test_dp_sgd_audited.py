"""DP-SGD under the one-run audit: what is correct stays below its ε, what lacks noise or clipping is convicted."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from raymia.config import TrainingConfig
from raymia.defenses import DPSGD, spent_epsilon
from raymia.metrics.dp_audit import OneRunAudit, one_run_epsilon
from raymia.models import Classifier, build_model
from raymia.privacy.lazy_opacus import opacus_module
from raymia.training.defense import Composed, TrainingSet
from raymia.training.loop import Plan, train
from raymia.training.run import Alone
from tests.training.conftest import CPU, MemoryKeeper

CANARIES, FEATURES, CLASSES, DELTA = 400, 500, 10, 1e-5
CLAIMED = DPSGD(epsilon=1.0, delta=DELTA, learning_rate=1.0)
CONFIG = TrainingConfig(epochs=10, batch_size=40, momentum=0.0, weight_decay=0.0, precision="fp32")


def build() -> Classifier:
    return build_model("mlp", (FEATURES,), CLASSES, {"hidden": []})


def audited(defense: DPSGD, seed: int) -> OneRunAudit:
    """Train a linear model on canaries with random labels, each in by a fair coin, and guess who was in by the loss."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(CANARIES, FEATURES)).astype(np.float32)
    labels = rng.integers(0, CLASSES, CANARIES)
    included = rng.random(CANARIES) < 0.5
    keeper = MemoryKeeper()
    rows = TrainingSet(inputs[included], labels[included])
    plan = Plan(rows, CLASSES, CONFIG, Composed((defense,)), seed, frozenset({CONFIG.epochs}))
    train(build, plan, keeper, Alone(), CPU)
    scores = -losses(keeper, inputs, labels)
    return one_run_epsilon(scores, included, 100, 100, DELTA)


def losses(keeper: MemoryKeeper, inputs: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64[N]: each canary's cross entropy in the trained model."""
    model = build()
    model.load_state_dict(keeper.weights(CONFIG.epochs))
    with torch.no_grad():
        logits = model(torch.from_numpy(inputs)).double()
    return functional.cross_entropy(logits, torch.from_numpy(labels), reduction="none").numpy()


def unclipped(self: Any) -> None:
    """Opacus' accumulation with every record's gradient as it is."""
    for weight in self.params:
        total = weight.grad_sample.sum(dim=0)
        weight.summed_grad = total if weight.summed_grad is None else weight.summed_grad + total


@pytest.mark.parametrize("seed", [0, 1])
def test_without_noise_the_claimed_epsilon_is_refuted(seed: int) -> None:
    claim = spent_epsilon(Composed((CLAIMED,)), CANARIES // 2, CONFIG.batch_size, CONFIG.epochs)
    assert claim is not None
    assert claim.epsilon <= 1.0
    silent = DPSGD(noise_multiplier=0.0, delta=DELTA, learning_rate=1.0)
    audit = audited(silent, seed)
    assert audit.epsilon > 1.5 * claim.epsilon
    assert audit.epsilon <= audit.ceiling


@pytest.mark.parametrize("seed", [0, 1])
def test_without_clipping_the_claimed_epsilon_is_refuted(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opacus_module("optimizers").DPOptimizer, "clip_and_accumulate", unclipped)
    assert audited(CLAIMED, seed).epsilon > 1.5


@pytest.mark.parametrize("seed", range(10))
def test_a_correct_training_stays_below_its_epsilon(seed: int) -> None:
    assert audited(CLAIMED, seed).epsilon < 1.0
