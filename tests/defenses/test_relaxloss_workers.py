"""RelaxLoss by two workers: both go by the mean loss of the whole batch, whatever their own shares' losses are."""

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from raymia.defenses import RelaxLoss
from raymia.training.defense import Batch, Losses
from raymia.training.run import Alone, Group
from tests.adversarial.crafting import image_run, of_logits, passed_on, together
from tests.training.conftest import batch_of, cross_entropy, run_by_hand

Variant = Literal["cifar_code", "paper"]

# The first four are right and rather sure, the last three wrong: shares of four and three records.
LOGITS = [
    [3.0, -1, 0.5],
    [0.2, 2, -1],
    [0.1, -0.6, 1.8],
    [2.5, 0.3, 0],
    [0.4, 1.2, -0.3],
    [1.5, -0.2, 1.1],
    [0, 0.3, 2],
]
LABELS = [0, 1, 2, 0, 2, 1, 0]
COUNT = len(LABELS)
LOSSES = cross_entropy(np.array(LOGITS), LABELS)
WHOLE, SURE, WRONG = (float(LOSSES[part].mean()) for part in (slice(None), slice(4), slice(4, None)))


def stepped(defense: RelaxLoss, epoch: int, group: Group) -> tuple[float, Tensor]:
    """The objective of this worker's share, and the gradient of its step by the bias on the logits."""
    numbers = np.array_split(np.arange(COUNT), group.world)[group.rank]
    labels = torch.tensor(LABELS)[numbers]
    run = image_run(defense, net=passed_on(), group=group)
    run.epoch = epoch
    value = run.step(Batch(of_logits(LOGITS)[numbers], labels, torch.eye(3)[labels]), COUNT)
    gradient = run.model.net[1].bias.grad  # type: ignore[index]
    assert isinstance(gradient, Tensor)
    return float(value), gradient.clone()


def test_the_shares_of_this_batch_lie_on_both_sides_of_every_target_tried_here() -> None:
    assert SURE < 0.3 < WHOLE - 0.3 < WHOLE + 0.3 < WRONG


@pytest.mark.parametrize("alpha", [WHOLE - 0.3, WHOLE + 0.3], ids=["below", "above"])
@pytest.mark.parametrize("variant", ["cifar_code", "paper"])
@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_two_workers_take_one_workers_step(epoch: int, variant: Variant, alpha: float) -> None:
    """The group averages gradients; a worker by itself would descend where the other climbs."""
    defense = RelaxLoss(alpha=alpha, variant=variant, upper=0.9)
    objective, alone = stepped(defense, epoch, Alone())
    found = together(2, lambda group: stepped(defense, epoch, group))
    torch.testing.assert_close(sum(gradient for _, gradient in found) / 2, alone, rtol=1e-4, atol=1e-6)
    # The step's values are each share's own: by their records they make up the whole batch's.
    assert sum(share * value for share, (value, _) in zip((4, 3), found, strict=True)) / COUNT == pytest.approx(
        objective, rel=1e-4
    )


@pytest.mark.parametrize("workers", [2, 3])
def test_the_whole_batch_decides_which_way_even_where_a_share_is_small(workers: int) -> None:
    """Not the mean of the workers' means: shares of 4 and 3, or of 3, 2 and 2, weigh by their records."""
    parts = np.array_split(LOSSES, workers)
    of_means = float(np.mean([part.mean() for part in parts]))
    assert abs(of_means - WHOLE) > 0.02
    defense = RelaxLoss(alpha=(of_means + WHOLE) / 2)
    _, alone = stepped(defense, 0, Alone())
    found = together(workers, lambda group: stepped(defense, 0, group))
    torch.testing.assert_close(sum(gradient for _, gradient in found) / workers, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.05, SURE, 0.7, WHOLE, WRONG, 9.0])
def test_one_worker_minimizes_the_distance_bit_for_bit(alpha: float) -> None:
    def graph() -> tuple[Tensor, Losses]:
        logits = torch.tensor(LOGITS, requires_grad=True)
        per_sample = torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS), reduction="none")
        return logits, Losses({"ce": per_sample}, per_sample.mean(), logits)

    exact = float(graph()[1].objective.detach())
    for target in (alpha, exact):
        logits, losses = graph()
        expected = (losses.objective - target).abs()
        [slope] = torch.autograd.grad(expected, logits)
        own, given = graph()
        run = run_by_hand(RelaxLoss(alpha=target))
        found = RelaxLoss(alpha=target).losses(run, batch_of(LOGITS, LABELS), lambda given=given: given)  # type: ignore[misc]
        [gradient] = torch.autograd.grad(found.total, own)
        assert found.objective.dtype == expected.dtype
        assert found.objective.detach().numpy().tobytes() == expected.detach().numpy().tobytes()
        np.testing.assert_array_equal(gradient.numpy(), slope.numpy())


def test_a_target_of_zero_asks_the_others_nothing() -> None:
    class Silent(Alone):
        world = 2

        def mean(self, value: float) -> float:
            raise AssertionError("asked")

    run = image_run(RelaxLoss(alpha=0), net=passed_on(), group=Silent())
    labels = torch.tensor(LABELS)
    assert float(run.step(Batch(of_logits(LOGITS), labels, torch.eye(3)[labels]), COUNT)) == pytest.approx(WHOLE)


def test_the_loss_that_counts_is_that_of_smoothed_targets_too() -> None:
    targets = 0.55 * torch.eye(3)[LABELS] + 0.15
    expected = torch.nn.functional.cross_entropy(torch.tensor(LOGITS), targets)

    def worked(group: Group) -> float:
        numbers = np.array_split(np.arange(COUNT), group.world)[group.rank]
        run = image_run(RelaxLoss(alpha=float(expected) + 0.1), net=passed_on(), group=group)
        batch = Batch(of_logits(LOGITS)[numbers], torch.tensor(LABELS)[numbers], targets[numbers])
        return float(run.losses(batch).total.detach())

    shares = together(2, worked)
    assert (4 * shares[0] + 3 * shares[1]) / COUNT == pytest.approx(0.1, rel=1e-3)
