"""Adversarial regularization: both sides of the game by themselves, then the game in the loop."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raymia.defenses import AdversarialRegularization, build_defense
from raymia.errors import InputError
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, make
from raymia.records import Records
from raymia.training.defense import Composed, Context, TrainingSet
from raymia.training.loop import Plan, train
from raymia.training.run import Alone, Run
from tests.recipes.conftest import CountingStore, ground_of, space_of, study_of
from tests.training.conftest import (
    CLASSES,
    CPU,
    InterruptedRunError,
    MemoryKeeper,
    batch_of,
    equal_bits,
    image_rows,
    images_of,
    run_by_hand,
    small_config,
    small_model,
)

NAME = "adversarial_regularization"
RESERVE = f"{NAME}/reserve"

Answered = tuple[Tensor, Tensor]


def answered(count: int, sure: float, seed: int) -> Answered:
    """Logits [count, 3] that are `sure` of the label, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    logits = rng.normal(size=(count, CLASSES)) + sure * np.eye(CLASSES)[labels]
    return torch.from_numpy(logits.astype(np.float32)), torch.from_numpy(labels)


MEMBERS, OTHERS = answered(60, 3.0, seed=0), answered(60, 0.5, seed=1)


def game(steps: int, **hyperparameters: Any) -> tuple[AdversarialRegularization, Run, list[float]]:
    """A run whose attack net has taken so many steps, and its losses."""
    defense = AdversarialRegularization(**({"strength": 2.0, "attack_rate": 3e-3} | hyperparameters))
    run = run_by_hand(defense)
    return defense, run, [float(defense.attack_step(run, MEMBERS, OTHERS)) for _ in range(steps)]


def accuracy(defense: AdversarialRegularization, run: Run, members: Answered, others: Answered) -> float:
    """Of the attack net: members are those it believes in."""
    with torch.no_grad():
        found = [defense.belief(run, *members) > 0, defense.belief(run, *others) <= 0]
    return float(torch.cat(found).float().mean())


@pytest.mark.parametrize("inputs", ["labels", "sorted"])
def test_a_step_of_the_attack_net_lowers_its_loss_and_many_tell_members_apart(inputs: str) -> None:
    defense, run, losses = game(40, inputs=inputs)
    assert losses[0] == pytest.approx(np.log(2), abs=0.05)  # half of each side's: the paper's gain, negated
    assert losses[1] < losses[0]
    assert losses[-1] < 0.8 * losses[0]
    assert accuracy(defense, run, MEMBERS, OTHERS) > 0.75
    with torch.no_grad():
        assert defense.belief(run, *MEMBERS).mean() > 0.5 > -0.5 > defense.belief(run, *OTHERS).mean()


def test_its_loss_is_the_papers_gain() -> None:
    defense, run, _ = game(10)
    with torch.no_grad():
        member, other = (defense.belief(run, *one).sigmoid().double() for one in (MEMBERS, OTHERS[:2]))
    gain = 0.5 * member.log().mean() + 0.5 * (1 - other).log().mean()
    assert float(defense.attack_step(run, MEMBERS, OTHERS)) == pytest.approx(-float(gain), rel=1e-5)


class Free(nn.Module):
    """A model that may answer each record as it likes: its weights are the logits of the records by number."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        return self.logits[inputs[:, 0].long()]


@pytest.mark.parametrize("inputs", ["labels", "sorted"])
def test_the_models_steps_lower_the_attack_nets_belief_and_accuracy(inputs: str) -> None:
    """The sign trap: with members and others mistaken, or the penalty negated, the accuracy would rise."""
    defense, run, _ = game(40, inputs=inputs, strength=200.0)
    before = accuracy(defense, run, MEMBERS, OTHERS)
    net = Free(MEMBERS[0])
    run.model.net = net
    run.optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    numbers = np.repeat(np.arange(60, dtype=np.float32)[:, None], CLASSES, axis=1)
    batch = batch_of(numbers, MEMBERS[1].tolist())
    batch.inputs[:, 1:] = 0
    beliefs = []
    for _ in range(40):
        losses = run.losses(batch)
        beliefs.append(losses.penalties[NAME].item())
        run.optimizer.zero_grad()
        losses.total.backward()
        run.optimizer.step()
    assert beliefs[-1] < beliefs[0]
    after = accuracy(defense, run, (net.logits.detach(), MEMBERS[1]), OTHERS)
    assert after < before - 0.1


def test_the_penalty_is_the_mean_belief_beyond_a_half() -> None:
    defense, run, _ = game(20, strength=3.0)
    batch = batch_of(MEMBERS[0].numpy(), MEMBERS[1].tolist())
    losses = run.losses(batch)
    with torch.no_grad():
        belief = defense.belief(run, *MEMBERS).sigmoid().mean()
    assert losses.penalties[NAME].item() == pytest.approx(3.0 * (float(belief) - 0.5), rel=1e-5)
    assert losses.objective.item() == pytest.approx(losses.terms["ce"].mean().item())


def test_the_attack_net_learns_nothing_from_the_models_step() -> None:
    _, run, _ = game(3)
    before = {name: value.clone() for name, value in run.state[NAME]["weights"].items()}
    run.losses(batch_of(MEMBERS[0].numpy(), MEMBERS[1].tolist())).total.backward()
    weights = run.state[NAME]["weights"]
    assert equal_bits(weights, before)
    assert all(value.grad is None and not value.requires_grad for value in weights.values())


def test_sorted_inputs_see_neither_labels_nor_the_order_of_classes() -> None:
    defense, run, _ = game(20, inputs="sorted")
    logits, labels = MEMBERS
    with torch.no_grad():
        belief = defense.belief(run, logits, labels)
        torch.testing.assert_close(defense.belief(run, logits[:, [2, 0, 1]], (labels + 1) % 3), belief)
    defense, run, _ = game(20)
    with torch.no_grad():
        assert (defense.belief(run, logits, (labels + 1) % 3) - defense.belief(run, logits, labels)).abs().max() > 1e-3


def reserve_rows(count: int = 30) -> TrainingSet:
    return image_rows(count, seed=1)


def play(
    keeper: MemoryKeeper | None = None,
    reserve: TrainingSet | None = None,
    epochs: int = 3,
    attack_rate: float = 1e-3,
    **changes: Any,
) -> MemoryKeeper:
    """A training in the loop."""
    keeper = keeper or MemoryKeeper()
    defense = Composed((AdversarialRegularization(strength=1.0, attack_steps=2, attack_rate=attack_rate),))
    config = small_config(**({"epochs": epochs, "augmentation": "crop_flip"} | changes))
    inputs = {RESERVE: reserve or reserve_rows()}
    plan = Plan(image_rows(), CLASSES, config, defense, 5, frozenset({epochs}), inputs)
    train(small_model(image_rows()), plan, keeper, Alone(), CPU)
    return keeper


def test_a_training_resumed_at_any_epoch_equals_an_undisturbed_one() -> None:
    undisturbed = play()
    for stop in (1, 2):
        keeper = MemoryKeeper(stop_at=stop)
        with pytest.raises(InterruptedRunError):
            play(keeper=keeper)
        state = keeper.load()
        assert state is not None
        held = state["defense"][NAME]
        # Six batches of two steps each, every epoch: the attack net's optimizer is there too.
        assert {int(one["step"]) for one in held["optimizer"]["state"].values()} == {3 * 2 * stop}
        keeper.stop_at = None
        torch.manual_seed(stop)
        play(keeper=keeper)
        assert equal_bits(keeper.weights(3), undisturbed.weights(3))
        assert keeper.histories == undisturbed.histories


def test_the_reserve_and_the_attack_nets_pace_matter() -> None:
    plain = play(epochs=1).weights(1)
    assert equal_bits(play(epochs=1).weights(1), plain)
    assert not equal_bits(play(reserve=image_rows(30, seed=2), epochs=1).weights(1), plain)
    assert not equal_bits(play(attack_rate=1e-2, epochs=1).weights(1), plain)


def test_the_games_look_at_the_model_moves_no_batch_statistics() -> None:
    """The reserve must not enter the normalization of the released model."""

    def statistics(reserve: TrainingSet) -> Tensor:
        # A rate so low that the weights stay: only the statistics move.
        weights = play(reserve=reserve, epochs=1, learning_rate=1e-30, augmentation="none").weights(1)
        return torch.cat([value for name, value in weights.items() if "running_mean" in name])

    dark, bright = (
        TrainingSet(np.full_like(images_of(reserve_rows()), value), np.zeros(30, int)) for value in (0, 255)
    )
    assert torch.equal(statistics(dark), statistics(bright))


def test_a_reserve_smaller_than_a_batch_is_used_whole() -> None:
    assert play(reserve=reserve_rows(3), epochs=1).weights(1)


def context(reserve: int = 5, workers: int = 1) -> Context:
    positions = np.arange(10)
    return Context(positions, np.arange(reserve), 3, 0, lambda *_: None, lambda wanted: None, workers)


def test_what_cannot_work_is_refused_before_anything_trains(digits: Records) -> None:
    defense = AdversarialRegularization(strength=1.0)
    assert defense.requires(context()) == {}
    with pytest.raises(InputError, match=rf"^{NAME}: needs a reserve of records"):
        defense.requires(context(reserve=0))
    with pytest.raises(InputError, match=rf"^{NAME}: .* set engine.workers_per_model to 1$"):
        defense.requires(context(workers=2))
    two = ground_of(digits, {"engine.workers_per_model": 2})
    model = ModelRecipe(two, Composed((defense,)), np.arange(40), np.arange(40, 80), ("target", 0), frozenset({2}))
    with pytest.raises(InputError, match=r"set engine.workers_per_model to 1"):
        _ = model.key


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, f"{NAME}.strength: is missing"),
        ({"strength": 0}, f"{NAME}.strength: input should be greater than 0"),
        ({"strength": 1, "inputs": "all"}, f"{NAME}.inputs: "),
        ({"strength": 1, "attack_steps": 0}, f"{NAME}.attack_steps: "),
        ({"strength": 1, "attack_rate": 0}, f"{NAME}.attack_rate: "),
    ],
)
def test_bad_hyperparameters_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_defense(NAME, given)
    assert "\n" not in str(caught.value)


def test_a_study_carves_a_reserve_and_trains_with_it(digits: Records, store: CountingStore) -> None:
    assert space_of({NAME: {"strength": 1.0}}).needs_reserve
    blueprint, [plain, setting] = study_of(digits, {NAME: {"strength": 1.0}}, plan__targets=1, training__epochs=1)
    models = [blueprint.result(one).targets[0].signals.model for one in (plain, setting)]
    undefended, model = models
    assert isinstance(model, ModelRecipe)
    assert isinstance(undefended, ModelRecipe)
    bench = Bench(digits, store)
    make(model, bench)
    kept = store.read(model.artifacts[0])[0]

    def changed(one: ModelRecipe) -> ModelRecipe:
        return ModelRecipe(one.ground, one.defense, one.positions, one.reserve[::-1][:9], one.stream, one.snapshots)

    # The undefended model of the same plan does not depend on the reserve.
    assert changed(undefended).key == undefended.key
    assert changed(model).key != model.key
    other = changed(model)
    make(other, bench)
    assert store.read(other.artifacts[0])[0] != kept
