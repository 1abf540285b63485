"""Adversarial training by PGD: what it trains on, in the loop and in a study's precision."""

from typing import Any

import numpy as np
import pytest
import torch

from raymia.adversarial import Attack, craft, pgd_correct
from raymia.defenses import DPSGD, PGDAT, Dropout, LabelSmoothing, Mixup, build_defense
from raymia.errors import InputError
from raymia.training.defense import Composed, Defense, soft_cross_entropy
from tests.adversarial.crafting import image_batch, image_run, normalized
from tests.training.conftest import (
    InterruptedRunError,
    MemoryKeeper,
    equal_bits,
    feature_rows,
    fit,
    image_rows,
    images_of,
    small_config,
    small_model,
)

QUICK = PGDAT(epsilon=0.1, steps=2, step_size=0.05)


def test_it_trains_on_the_examples_alone() -> None:
    run = image_run(QUICK, net=normalized())
    batch = image_batch(6)
    crafted = run.defense.batch(run, batch)
    expected = craft(
        run.model,
        batch.inputs,
        lambda logits: soft_cross_entropy(logits, batch.targets).sum(),
        Attack("linf", 0.1, 2, 0.05),
        np.random.default_rng(0),
    )
    assert torch.equal(crafted.inputs, expected)
    assert torch.equal(crafted.labels, batch.labels)
    assert not torch.equal(crafted.inputs, batch.inputs)
    torch.manual_seed(0)
    losses = run.losses(crafted)
    torch.manual_seed(0)
    by_hand = soft_cross_entropy(run.forward(expected), batch.targets)
    torch.testing.assert_close(losses.terms["adversarial_ce"], by_hand)
    torch.testing.assert_close(losses.total, by_hand.mean())


def test_its_defaults_are_the_recipe() -> None:
    assert PGDAT() == PGDAT(epsilon=8 / 255, steps=10, step_size=2 / 255, norm="linf")


def test_a_model_trained_so_withstands_more() -> None:
    """And its examples are what raised its loss: a plain model falls to them."""
    rows, config = image_rows(40), small_config(epochs=25)
    inputs = torch.from_numpy(images_of(rows)).permute(0, 3, 1, 2).float() / 255
    found = []
    for defenses in ((), (PGDAT(epsilon=0.1, steps=4, step_size=0.05),)):
        model = small_model(rows)()
        model.load_state_dict(fit(rows, config, *defenses).weights(25))
        attack = Attack("linf", 0.1, 10, 0.02)
        withstood = pgd_correct(model, inputs, torch.from_numpy(rows.labels), attack, np.random.default_rng(0))
        found.append(withstood.mean())
    assert found[0] < found[1] - 0.2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_resumed_at_any_epoch_equals_an_undisturbed_one(precision: str) -> None:
    config = small_config(epochs=3, augmentation="crop_flip", precision=precision)
    defenses = (QUICK, Dropout(rate=0.3))
    undisturbed = fit(image_rows(), config, *defenses)
    for stop in (1, 2):
        keeper = MemoryKeeper(stop_at=stop)
        with pytest.raises(InterruptedRunError):
            fit(image_rows(), config, *defenses, keeper=keeper)
        keeper.stop_at = None
        torch.manual_seed(stop)
        fit(image_rows(), config, *defenses, keeper=keeper)
        assert equal_bits(keeper.weights(3), undisturbed.weights(3))
    assert not equal_bits(fit(image_rows(), config, *defenses, seed=6).weights(3), undisturbed.weights(3))


def test_crafting_climbs_the_loss_that_is_trained() -> None:
    """Smoothed and mixed targets are the attack's too."""
    run = image_run(Mixup(alpha=1.0), QUICK)
    batch = image_batch(8)
    crafted = run.defense.batch(run, batch)
    assert not torch.equal(crafted.targets, batch.targets)
    again = image_run(Mixup(alpha=1.0))
    mixed = again.defense.batch(again, batch)
    torch.testing.assert_close(crafted.targets, mixed.targets)
    attack = Attack("linf", 0.1, 2, 0.05)
    by_hand = craft(
        again.model, mixed.inputs, lambda logits: soft_cross_entropy(logits, mixed.targets).sum(), attack, again.rng
    )
    torch.testing.assert_close(crafted.inputs, by_hand)


def test_it_composes_with_what_touches_other_points() -> None:
    config = small_config(epochs=2)
    together = fit(image_rows(), config, QUICK, Dropout(rate=0.3), LabelSmoothing(epsilon=0.1)).weights(2)
    assert not equal_bits(together, fit(image_rows(), config, QUICK).weights(2))


def test_dp_sgd_composes_as_each_example_comes_from_its_own_record() -> None:
    """DP-AT: the hooks that take gradients record by record are out of the way while crafting, and back after."""
    private = DPSGD(noise_multiplier=0.0, max_grad_norm=1e6, batch_size=8, learning_rate=0.05)
    config = small_config(epochs=2)
    both = fit(image_rows(), config, private, QUICK)
    assert not equal_bits(both.weights(2), fit(image_rows(), config, private).weights(2))
    # Records drawn to nobody's step: an epoch of expected batches of 1 has some that are empty.
    sparse = DPSGD(noise_multiplier=0.5, batch_size=1, learning_rate=0.01)
    assert fit(image_rows(), small_config(epochs=1), sparse, QUICK).weights(1)


def test_features_are_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match=r"^pgd_at: crafts adversarial images .* feature vectors; choose a data set"):
        fit(feature_rows(8), small_config(epochs=1), QUICK)


def test_two_methods_of_adversarial_training_cannot_be_combined() -> None:
    methods: list[Defense] = [build_defense(name, {}) for name in ("pgd_at", "trades", "mart", "trades_awp")]
    for one in methods:
        for other in methods:
            if one is not other:
                with pytest.raises(InputError, match=r"both replace '.*' and cannot be combined: keep one$"):
                    Composed((one, other))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epsilon": 0}, "pgd_at.epsilon: input should be greater than 0"),
        ({"steps": 0}, "pgd_at.steps: "),
        ({"step_size": -1}, "pgd_at.step_size: "),
        ({"norm": "l1"}, "pgd_at.norm: "),
        ({"beta": 1}, "unknown hyperparameter pgd_at.beta"),
    ],
)
def test_bad_hyperparameters_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_defense("pgd_at", given)
    assert "\n" not in str(caught.value)
