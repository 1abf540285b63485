"""MemGuard: what the noise does and does not change, its expected size, and one attack net for every budget."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from raymia.defenses import EarlyStopping, MemGuard, build_defense
from raymia.defenses.memguard import Guard, _slope, disguised
from raymia.errors import InputError
from raymia.recipes.fitted import FittedRecipe
from raymia.recipes.model import ModelRecipe
from raymia.recipes.recipe import Bench, make, walk
from raymia.records import Records
from raymia.training.defense import Composed, Context
from tests.recipes.conftest import CountingStore, ground_of, space_of, study_of
from tests.training.conftest import a_context

CLASSES = 4
RECORDS = 100


def answers_of(positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """A model that is surer of its members, the first ones, than of others."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2 * RECORDS, CLASSES))
    label = rng.integers(0, CLASSES, 2 * RECORDS)
    sure = np.where(np.arange(2 * RECORDS) < RECORDS, 5.0, 2.5)
    logits[np.arange(2 * RECORDS), label] += sure
    found: NDArray[np.float32] = logits.astype(np.float32)[positions]
    return found


def context(seed: int = 5) -> Context:
    positions = np.arange(2 * RECORDS)
    return Context(positions[:RECORDS], positions[RECORDS:], CLASSES, seed, lambda *_: None, lambda wanted: None)


@pytest.fixture(scope="module")
def noisy(fitted: dict[str, Tensor]) -> Tensor:
    """The queries disguised."""
    return disguised(guard_of(fitted), queries())


@pytest.fixture(scope="module")
def fitted() -> dict[str, Tensor]:
    return MemGuard(budget=1.0, epochs=30).fit(context(), answers_of)


def guard_of(fitted: dict[str, Tensor]) -> Guard:
    guard = Guard(CLASSES)
    guard.load_state_dict(fitted)
    return guard.requires_grad_(False)


def queries() -> Tensor:
    """Queries that the model, an identity, answers with themselves: all members, then all others."""
    return torch.from_numpy(answers_of(np.arange(2 * RECORDS)))


def accuracy(guard: Guard, logits: Tensor) -> float:
    member = torch.arange(len(logits)) < RECORDS
    return float(((guard(logits) > 0) == member).float().mean())


def distortion(before: Tensor, after: Tensor) -> Tensor:
    return (after.softmax(dim=1) - before.softmax(dim=1)).abs().sum(dim=1)


def test_the_attack_net_tells_members_from_the_reserve(fitted: dict[str, Tensor]) -> None:
    guard = guard_of(fitted)
    assert accuracy(guard, queries()) > 0.75
    # Sorted confidences: neither the order of classes nor what is added to all logits matters.
    moved = queries()[:, [2, 0, 3, 1]] + 3.0
    torch.testing.assert_close(guard(moved), guard(queries()), rtol=1e-3, atol=1e-3)


def test_fitting_repeats_with_the_models_seed_and_leaves_torchs_generator_alone(fitted: dict[str, Tensor]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    again = MemGuard(budget=0.1, epochs=30).fit(context(), answers_of)
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(again[name], fitted[name]) for name in fitted)
    other = MemGuard(budget=0.1, epochs=30).fit(context(seed=6), answers_of)
    assert not torch.equal(other["layers.0.weight"], fitted["layers.0.weight"])
    assert int(other["secret"]) != int(fitted["secret"])


def test_noise_turns_the_verdict_keeps_the_label_and_is_small(fitted: dict[str, Tensor], noisy: Tensor) -> None:
    guard, plain = guard_of(fitted), queries()
    assert torch.equal(noisy.argmax(dim=1), plain.argmax(dim=1))
    moved = (noisy != plain).any(dim=1)
    assert float(moved.float().mean()) > 0.9
    assert (guard(noisy)[moved] * guard(plain)[moved] <= 1e-6).all()
    before, after = ((guard(one)[moved].sigmoid() - 0.5).abs().mean() for one in (plain, noisy))
    assert after < 0.3 * before
    assert float(distortion(plain, noisy).mean()) < 0.35


def test_the_distortion_weighs_in(fitted: dict[str, Tensor], noisy: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    guard, plain = guard_of(fitted), queries()
    careful = distortion(plain, noisy).mean()
    monkeypatch.setattr("raymia.defenses.memguard._DISTORTION_WEIGHTS", (0.0,))
    assert careful < distortion(plain, disguised(guard, plain)).mean()


def test_what_is_descended_pulls_the_label_back_to_the_front() -> None:
    """`10 relu(max other - label)` by hand, under a net without an opinion."""
    guard = Guard(CLASSES).requires_grad_(False)
    for weights in guard.layers.parameters():
        weights.zero_()
    start = torch.tensor([[3.0, 1.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]])
    moved = torch.tensor([[2.0, 1.0, 0.0, 0.0], [1.0, 2.0, 0.0, 0.0]])
    _, gradient = _slope(guard, moved, start, torch.tensor([0, 0]), weight=0.0)
    assert gradient.tolist() == [[0, 0, 0, 0], [-10, 10, 0, 0]]


class Identity(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


def release(fitted: dict[str, Tensor], budget: float, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return MemGuard(budget=budget).release(Identity(), inputs, fitted)


@settings(max_examples=4, deadline=None)
@given(st.floats(0, 2), st.integers(0, 1000))
def test_labels_stay_and_answers_are_distributions(fitted: dict[str, Tensor], budget: float, seed: int) -> None:
    inputs = 3 * torch.randn(20, CLASSES, generator=torch.Generator().manual_seed(seed))
    released = release(fitted, budget, inputs)
    assert torch.equal(released.argmax(dim=1), inputs.argmax(dim=1))
    torch.testing.assert_close(released.exp().sum(dim=1), torch.ones(20))


def test_the_expected_distortion_is_within_the_budget_for_every_query(fitted: dict[str, Tensor], noisy: Tensor) -> None:
    guard, plain, noisy = guard_of(fitted), queries().log_softmax(dim=1), noisy.log_softmax(dim=1)
    for budget in (0.0, 0.01, 0.1, 1.0):
        chance = MemGuard(budget=budget)._chance(guard, plain, noisy)
        assert (chance >= 0).all()
        assert (chance <= 1).all()
        expected = chance * distortion(plain, noisy).double()
        assert (expected <= budget + 1e-6).all()
        # The whole budget is used where it binds.
        binds = (chance > 0) & (chance < 1)
        np.testing.assert_allclose(expected[binds], budget, rtol=1e-3)
    assert (MemGuard(budget=2.0)._chance(guard, plain, noisy) > 0.99).double().mean() > 0.9


def test_noise_that_does_not_help_is_not_released(fitted: dict[str, Tensor], noisy: Tensor) -> None:
    guard, plain, noisy = guard_of(fitted), queries().log_softmax(dim=1), noisy.log_softmax(dim=1)
    assert (MemGuard(budget=2.0)._chance(guard, noisy, plain) == 0).float().mean() > 0.9


def test_the_coin_falls_as_often_as_it_should(fitted: dict[str, Tensor], noisy: Tensor) -> None:
    """As many queries are noisy as their chances add up to, within 4 standard deviations."""
    guard, inputs = guard_of(fitted), queries()
    plain, noisy = inputs.log_softmax(dim=1), noisy.log_softmax(dim=1)
    chance = MemGuard(budget=0.02)._chance(guard, plain, noisy)
    released = release(fitted, 0.02, inputs)
    chosen = (released != plain).any(dim=1)
    assert 0 < int(chosen.sum()) < len(inputs)
    deviation = float((chance * (1 - chance)).sum().sqrt())
    assert abs(float(chosen.sum()) - float(chance.sum())) < 4 * deviation
    torch.testing.assert_close(released[chosen], noisy[chosen])


def test_asked_again_a_query_gets_the_same_answer_in_whatever_batch(fitted: dict[str, Tensor]) -> None:
    inputs = queries()[::20]
    assert len(inputs) == 10
    together = release(fitted, 0.05, inputs)
    for number in (0, 3, 9):
        alone = release(fitted, 0.05, inputs[[number]])
        torch.testing.assert_close(alone, together[[number]], rtol=1e-3, atol=1e-3)
    # Another model's secret throws other coins.
    other = release(fitted | {"secret": fitted["secret"] + 1}, 0.05, inputs)
    assert not torch.equal(other, together)


def test_no_budget_is_no_noise(fitted: dict[str, Tensor]) -> None:
    torch.testing.assert_close(release(fitted, 0.0, queries()), queries().log_softmax(dim=1))


def test_the_attack_net_is_led_astray(fitted: dict[str, Tensor]) -> None:
    guard = guard_of(fitted)
    assert accuracy(guard, release(fitted, 1.0, queries())) < 0.5 < 0.75 < accuracy(guard, queries())


def models_of(digits: Records, *entries: Any, **changes: Any) -> list[ModelRecipe]:
    blueprint, settings = study_of(digits, *entries, plan__targets=1, **changes)
    assert blueprint.ground.config.plan.reserve
    found = [blueprint.result(setting).targets[0].signals.model for setting in settings]
    assert all(isinstance(one, ModelRecipe) for one in found)
    return found  # type: ignore[return-value]


def test_a_budget_trains_nothing_and_the_undefended_model_serves(digits: Records, store: CountingStore) -> None:
    space = {"memguard": {"budget": [0.2, 1.0], "epochs": 5}}
    blueprint, settings = study_of(digits, space, plan__targets=1)
    results = [blueprint.result(setting) for setting in settings]
    assert len({one.targets[0].signals.model.key for one in results}) == 1
    bench = Bench(digits, store)
    made = []
    for result in results:
        store.written.clear()
        make(result, bench)
        made.append([name.partition("/")[0] for name in store.written if not name.startswith("checkpoints/")])
    # Target and shadow: their models once, their attack nets once, answers for each budget.
    assert [kinds.count("models") for kinds in made] == [2, 0, 0]
    assert [kinds.count("fitted") for kinds in made] == [0, 2, 0]
    assert [kinds.count("signals") for kinds in made] == [2, 2, 2]

    plain, low, high = (one.targets[0].signals.open(store).logits_NQC[:, 0] for one in results)
    assert low.argmax(axis=1).tolist() == high.argmax(axis=1).tolist() == plain.argmax(axis=1).tolist()
    log_p = plain - np.log(np.exp(plain).sum(axis=1, keepdims=True))
    changed = [(np.abs(one - log_p).max(axis=1) > 1e-4).sum() for one in (low, high)]
    assert 0 < changed[0] <= changed[1]


def test_each_kept_epoch_has_an_attack_net_of_its_own(digits: Records) -> None:
    ground = ground_of(digits, {"training.epochs": 4})
    defense = Composed((MemGuard(budget=0.5, epochs=5), EarlyStopping(fraction=0.5)))
    one = ModelRecipe(ground, defense, np.arange(40), np.arange(40, 80), ("target", 0), frozenset({2, 4}))
    [early], [late] = one.answers_need(2), one.answers_need(4)
    assert early.key != late.key
    plain = ModelRecipe(ground, Composed(()), one.positions, one.reserve, one.stream, one.snapshots)
    assert plain.key == one.key
    assert plain.answers_need(4) == ()


def test_what_an_attack_net_is_made_from_names_it(digits: Records) -> None:
    def key(epochs: int = 5, budget: float = 0.5, reserve: int = 80, version: int = 1) -> str:
        guarded = type("Guarded", (MemGuard,), {"version": version})(budget=budget, epochs=epochs)
        ground = ground_of(digits)
        model = ModelRecipe(
            ground, Composed((guarded,)), np.arange(40), np.arange(40, reserve), ("target", 0), frozenset({2})
        )
        [fitted] = model.answers_need(2)
        return fitted.key

    assert key(budget=0.7) == key()
    assert len({key(), key(epochs=6), key(reserve=79), key(version=2)}) == 4


def test_every_model_that_answers_has_its_attack_net_first(digits: Records) -> None:
    blueprint, [_, setting] = study_of(digits, {"memguard": {"budget": 0.5}}, plan__targets=1)
    steps = list(walk([blueprint.result(setting)]))
    fitted = [step for step in steps if isinstance(step, FittedRecipe)]
    assert {step.model.stream for step in fitted} == {("target", 0), ("shadow", 0)}
    for step in steps:
        if step.kind == "signals":
            [needed] = [one for one in step.requires() if isinstance(one, FittedRecipe)]
            assert steps.index(step) > next(at for at, one in enumerate(steps) if one.key == needed.key)


def test_it_wants_a_reserve(digits: Records) -> None:
    assert space_of({"memguard": {"budget": 0.5}}).needs_reserve
    with pytest.raises(InputError, match=r"^memguard: needs a reserve of records"):
        MemGuard(budget=0.5).requires(a_context())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "memguard.budget: is missing"),
        ({"budget": 2.5}, "memguard.budget: input should be less than or equal to 2, got 2.5"),
        ({"budget": 0.5, "epochs": 0}, "memguard.epochs: "),
    ],
)
def test_bad_hyperparameters_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_defense("memguard", given)
    assert "\n" not in str(caught.value)
