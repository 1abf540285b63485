"""Interrupted and resumed or not, stopped early or not: the same weights bit for bit."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from raymia.defenses import Dropout, LabelSmoothing, Mixup
from raymia.training.defense import Batch, Defense, Losses
from raymia.training.run import Run
from tests.training.conftest import InterruptedRunError, MemoryKeeper, equal_bits, fit, image_rows, small_config

EPOCHS = 6
DEFENSES = (Mixup(alpha=0.4), Dropout(rate=0.3), LabelSmoothing(epsilon=0.1))
SETTINGS: dict[str, dict[str, Any]] = {
    "fp32 sgd": {"augmentation": "crop_flip"},
    "bf16 sgd": {"augmentation": "crop_flip", "precision": "bf16"},
    "fp32 adam": {"augmentation": "flip", "optimizer": "adam", "learning_rate": 0.01, "schedule": "step"},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_training_resumed_at_any_epoch_equals_an_undisturbed_one(setting: str) -> None:
    config = small_config(**SETTINGS[setting])
    undisturbed = fit(image_rows(), config, *DEFENSES)
    for stop in range(1, EPOCHS):
        keeper = MemoryKeeper(stop_at=stop)
        with pytest.raises(InterruptedRunError):
            fit(image_rows(), config, *DEFENSES, keeper=keeper)
        assert not keeper.snapshots
        keeper.stop_at = None
        # Whatever the other process did to the global generator must not matter.
        torch.manual_seed(stop)
        fit(image_rows(), config, *DEFENSES, keeper=keeper)
        assert keeper.reported == list(range(1, EPOCHS + 1)), "epochs were trained twice"
        assert equal_bits(keeper.weights(EPOCHS), undisturbed.weights(EPOCHS))
        assert keeper.histories == undisturbed.histories


class _CrashInBatch(Defense):
    """Crashes in the middle of an epoch, once."""

    name = "crash_in_batch"

    def __init__(self, epoch: int) -> None:
        self.epoch: int | None = epoch

    def batch(self, run: Run, batch: Batch) -> Batch:
        if run.epoch == self.epoch and len(batch.labels) == 6:
            self.epoch = None
            raise InterruptedRunError
        return batch


def test_a_crash_within_an_epoch_loses_only_the_epochs_since_the_checkpoint() -> None:
    config = small_config(checkpoint_every=2, augmentation="flip")
    undisturbed = fit(image_rows(), config, *DEFENSES)
    keeper, crash = MemoryKeeper(), _CrashInBatch(epoch=3)
    with pytest.raises(InterruptedRunError):
        fit(image_rows(), config, *DEFENSES, crash, keeper=keeper)
    assert keeper.saved == [2]
    fit(image_rows(), config, *DEFENSES, crash, keeper=keeper)
    assert keeper.reported == [1, 2, 3, 3, 4, 5, 6]
    assert equal_bits(keeper.weights(EPOCHS), undisturbed.weights(EPOCHS))


def test_keeping_models_on_the_way_does_not_change_the_training() -> None:
    config = small_config(augmentation="crop_flip")
    one = fit(image_rows(), config, *DEFENSES)
    many = fit(image_rows(), config, *DEFENSES, snapshots={1, 3, 4, EPOCHS})
    assert set(many.snapshots) == {1, 3, 4, EPOCHS}
    assert equal_bits(many.weights(EPOCHS), one.weights(EPOCHS))
    assert not equal_bits(many.weights(4), one.weights(EPOCHS))
    assert many.histories[3] == one.histories[EPOCHS][:3]
    rare = fit(image_rows(), config.model_copy(update={"checkpoint_every": 5}), *DEFENSES)
    assert equal_bits(rare.weights(EPOCHS), one.weights(EPOCHS))


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_where_training_stops_does_not_change_it(schedule: str) -> None:
    config = small_config(schedule=schedule, augmentation="flip")
    whole = fit(image_rows(), config, *DEFENSES, snapshots={2, 4, EPOCHS})
    for stop in (2, 4):
        stopped = fit(image_rows(), config, *DEFENSES, snapshots={stop})
        assert stopped.reported == list(range(1, stop + 1))
        assert equal_bits(stopped.weights(stop), whole.weights(stop))


def test_a_model_wanted_at_the_checkpoints_own_epoch_is_kept() -> None:
    """The checkpoint is from a study that did not ask for this stop, the new one does."""
    config = small_config()
    keeper = MemoryKeeper(stop_at=3)
    with pytest.raises(InterruptedRunError):
        fit(image_rows(), config, keeper=keeper)
    for wanted in ({3}, {3, EPOCHS}):
        again = MemoryKeeper(checkpoint=keeper.checkpoint)
        fit(image_rows(), config, keeper=again, snapshots=wanted)
        assert again.reported == list(range(4, max(wanted) + 1))
        direct = fit(image_rows(), config, snapshots=wanted)
        assert again.histories == direct.histories
        assert all(equal_bits(again.weights(epoch), direct.weights(epoch)) for epoch in wanted)


def test_a_checkpoint_past_the_first_wanted_model_is_not_used() -> None:
    config = small_config()
    keeper = MemoryKeeper(stop_at=4)
    with pytest.raises(InterruptedRunError):
        fit(image_rows(), config, keeper=keeper)
    keeper.stop_at, keeper.reported = None, []
    fit(image_rows(), config, keeper=keeper, snapshots={2, EPOCHS})
    assert keeper.reported == list(range(1, EPOCHS + 1))
    direct = fit(image_rows(), config, snapshots={2, EPOCHS})
    assert all(equal_bits(keeper.weights(epoch), direct.weights(epoch)) for epoch in (2, EPOCHS))


def test_checkpoints_come_as_often_as_asked_and_not_at_the_end() -> None:
    config = small_config(checkpoint_every=2)
    assert fit(image_rows(), config, snapshots={4, 5, EPOCHS}).saved == [2, 4]
    assert fit(image_rows(), config).saved == [2, 4]
    assert fit(image_rows(), config, snapshots={4}).saved == [2]


def test_a_training_stopped_after_a_kept_model_goes_on_from_there() -> None:
    config = small_config(augmentation="flip")
    keeper = MemoryKeeper(stop_at=4)
    with pytest.raises(InterruptedRunError):
        fit(image_rows(), config, *DEFENSES, keeper=keeper, snapshots={2, 4, EPOCHS})
    keeper.stop_at, keeper.reported = None, []
    fit(image_rows(), config, *DEFENSES, keeper=keeper, snapshots={EPOCHS})
    assert keeper.reported == [5, 6]
    assert equal_bits(keeper.weights(EPOCHS), fit(image_rows(), config, *DEFENSES).weights(EPOCHS))


class _Counting(Defense):
    """Keeps a tensor of its own between steps, and adds it to the loss."""

    name = "counting"

    def losses(self, run: Run, batch: Batch, inner: Callable[[], Losses]) -> Losses:
        losses = inner()
        count = run.state["count"] = run.state.get("count", torch.zeros(())) + 1
        losses.penalties["count"] = 0.01 * count * losses.logits.square().mean()
        return losses


@pytest.mark.parametrize("stop", [1, 4])
def test_what_a_defense_keeps_of_its_own_survives_an_interruption(stop: int) -> None:
    keeper = MemoryKeeper(stop_at=stop)
    with pytest.raises(InterruptedRunError):
        fit(image_rows(), small_config(), _Counting(), keeper=keeper)
    keeper.stop_at = None
    fit(image_rows(), small_config(), _Counting(), keeper=keeper)
    assert equal_bits(keeper.weights(EPOCHS), fit(image_rows(), small_config(), _Counting()).weights(EPOCHS))


def test_seeds_differ_and_repeat() -> None:
    config = small_config(epochs=1)
    first = fit(image_rows(), config).weights(1)
    assert equal_bits(first, fit(image_rows(), config).weights(1))
    assert not equal_bits(first, fit(image_rows(), config, seed=6).weights(1))


def test_a_training_leaves_torchs_generator_and_its_rows_alone() -> None:
    rows = image_rows()
    before = hashlib.sha256(rows.inputs.tobytes()).hexdigest()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    fit(rows, small_config(epochs=2, augmentation="crop_flip"), *DEFENSES)
    assert torch.equal(torch.rand(3), expected)
    assert hashlib.sha256(rows.inputs.tobytes()).hexdigest() == before


def test_numpys_global_generator_is_not_touched() -> None:
    state = np.random.get_state()[1].copy()  # type: ignore[index]
    fit(image_rows(), small_config(epochs=1, augmentation="crop_flip"), *DEFENSES)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # type: ignore[index]
