"""TRADES: its loss and gradient worked out by hand, and what it crafts."""

import numpy as np
import pytest
import torch

from raymia.adversarial import Attack, CraftedBatch, Norm, craft
from raymia.defenses import TRADES, LabelSmoothing, Mixup, RelaxLoss
from raymia.errors import InputError
from raymia.training.defense import Composed
from tests.adversarial.crafting import image_batch, image_run, normalized, of_logits, passed_on
from tests.training.conftest import (
    InterruptedRunError,
    MemoryKeeper,
    batch_of,
    equal_bits,
    fit,
    image_rows,
    small_config,
)

P, Q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])
QUICK = TRADES(epsilon=0.1, steps=2, step_size=0.05)


def crafted_by_hand() -> CraftedBatch:
    """One record of class 0 that the model answers with P, and its example with Q."""
    clean = batch_of(np.zeros((1, 3)), [0])
    clean.inputs = of_logits([np.log(P).tolist()])
    return CraftedBatch.of(clean, of_logits([np.log(Q).tolist()]))


def test_the_loss_by_hand() -> None:
    """CE = -ln .7 = .35667; KL = .7 ln 1.4 + .2 ln .8 + .1 ln .4 = .09927; β = 6."""
    losses = image_run(TRADES(beta=6), net=passed_on()).losses(crafted_by_hand())
    assert losses.terms["ce"].tolist() == pytest.approx([0.35667], abs=1e-5)
    assert losses.terms["kl"].tolist() == pytest.approx([0.09927], abs=1e-5)
    assert losses.terms["adversarial_ce"].tolist() == pytest.approx([np.log(2)], abs=1e-5)
    assert losses.total.item() == pytest.approx(0.35667 + 6 * 0.09927, abs=5e-5)


def test_the_gradient_flows_through_both_answers() -> None:
    """By a bias of both: (p - y) + β (p·(ln p/q - KL) + (q - p))."""
    run = image_run(TRADES(beta=6), net=passed_on())
    run.losses(crafted_by_hand()).total.backward()
    apart = float((P * np.log(P / Q)).sum())
    through_p, through_q = P * (np.log(P / Q) - apart), Q - P
    expected = P - [1, 0, 0] + 6 * (through_p + through_q)
    bias = run.model.net[1].bias  # type: ignore[index]
    np.testing.assert_allclose(bias.grad.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert np.abs(through_p).max() > 0.05


def test_records_count_alike() -> None:
    one = crafted_by_hand()
    same = CraftedBatch(one.inputs, one.labels, one.targets, one.inputs)
    double = CraftedBatch(
        *(torch.cat([getattr(a, name) for a in (one, same)]) for name in ("inputs", "labels", "targets", "adversarial"))
    )
    run = image_run(TRADES(beta=6), net=passed_on())
    assert run.losses(double).total.item() == pytest.approx(0.35667 + 3 * 0.09927, abs=5e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_examples_climb_the_divergence_of_the_model_in_eval_mode(norm: Norm) -> None:
    defense = TRADES(epsilon=0.2, steps=5, step_size=0.05, norm=norm)
    run = image_run(defense, net=normalized())
    batch = image_batch(8)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    crafted = run.defense.batch(run, batch)
    assert isinstance(crafted, CraftedBatch)
    assert torch.equal(crafted.inputs, batch.inputs)
    assert equal_bits(run.model.state_dict(), before)
    assert all(module.training for module in run.model.modules())
    run.model.eval()
    with torch.no_grad():
        answered = run.model(batch.inputs).log_softmax(dim=1)

    def divergence(logits: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.kl_div(logits.log_softmax(dim=1), answered, reduction="none", log_target=True).sum(1)

    attack = Attack(defense.norm, 0.2, 5, 0.05, "gaussian")
    by_hand = craft(run.model, batch.inputs, lambda one: divergence(one).sum(), attack, np.random.default_rng(0))
    torch.testing.assert_close(crafted.adversarial, by_hand)
    start = craft(
        run.model,
        batch.inputs,
        lambda one: one.sum(),
        Attack("linf", 0.2, 1, 1e-9, "gaussian"),
        np.random.default_rng(0),
    )
    with torch.no_grad():
        began, reached = (divergence(run.model(one)) for one in (start, crafted.adversarial))
    assert bool((reached > 20 * began).all())


def test_the_batch_statistics_see_the_records_and_then_the_examples() -> None:
    """Two passes in training mode, as in the authors' code, not one of both together."""
    net = normalized()
    run = image_run(QUICK, net=net)
    batch = run.defense.batch(run, image_batch(8))
    run.losses(batch)
    assert int(net[1].num_batches_tracked) == 2


def test_beta_of_zero_trains_on_the_records() -> None:
    run = image_run(TRADES(beta=0, epsilon=0.1, steps=1), net=passed_on())
    losses = run.losses(crafted_by_hand())
    assert losses.total.item() == pytest.approx(0.35667, abs=1e-5)


def test_a_training_resumed_at_any_epoch_equals_an_undisturbed_one() -> None:
    config = small_config(epochs=3, augmentation="flip")
    undisturbed = fit(image_rows(), config, QUICK)
    for stop in (1, 2):
        keeper = MemoryKeeper(stop_at=stop)
        with pytest.raises(InterruptedRunError):
            fit(image_rows(), config, QUICK, keeper=keeper)
        keeper.stop_at = None
        fit(image_rows(), config, QUICK, keeper=keeper)
        assert equal_bits(keeper.weights(3), undisturbed.weights(3))


def test_smoothed_targets_are_the_cross_entropys() -> None:
    config = small_config(epochs=1)
    smooth = fit(image_rows(), config, QUICK, LabelSmoothing(epsilon=0.3)).weights(1)
    assert not equal_bits(smooth, fit(image_rows(), config, QUICK).weights(1))


def test_what_replaces_the_objective_or_the_batch_is_refused() -> None:
    with pytest.raises(InputError, match="both replace 'objective'"):
        Composed((QUICK, RelaxLoss(alpha=0.5)))
    with pytest.raises(InputError, match=r"^trades: a defense written after it made another batch.*write trades after"):
        fit(image_rows(), small_config(epochs=1), QUICK, Mixup(alpha=0.4))
    assert fit(image_rows(), small_config(epochs=1), Mixup(alpha=0.4), QUICK).weights(1)
