"""DeMem: what it adds to which losses, over whose records, and what it refuses."""

from typing import Any

import numpy as np
import pytest
import torch

from raymia.defenses import AWP, DPSGD, MART, PGDAT, TRADES, TRADESAWP, DeMem, LabelSmoothing, build_defense
from raymia.errors import InputError
from raymia.recipes.recipe import Bench, make
from raymia.records import Records
from raymia.space_files import load_space
from raymia.training.defense import Composed, Context, Defense, Losses
from tests.adversarial.crafting import image_batch, image_run
from tests.recipes.conftest import CountingStore, study_of
from tests.training.conftest import (
    InterruptedRunError,
    MemoryKeeper,
    equal_bits,
    fit,
    image_rows,
    images_of,
    run_by_hand,
    small_config,
    small_model,
)

WEAK: dict[str, Any] = {"epsilon": 0.1, "steps": 2, "step_size": 0.05}
METHODS: dict[str, tuple[Defense, ...]] = {
    "standard": (),
    "pgd_at": (PGDAT(**WEAK),),
    "trades": (TRADES(**WEAK),),
    "mart": (MART(**WEAK),),
    "awp": (PGDAT(**WEAK), AWP()),
    "trades_awp": (TRADESAWP(**WEAK),),
}


def test_the_worked_example() -> None:
    """l = (0, 1, 2, 3), λ = 0.5: the paper's loss and each record's weight in its gradient."""
    per_sample = torch.tensor([0.0, 1.0, 2.0, 3.0], requires_grad=True)
    run = run_by_hand()
    plain = Losses({"ce": per_sample}, per_sample.mean(), torch.zeros(4, 3))
    losses = DeMem(strength=0.5).losses(run, image_batch(4), lambda: plain)
    assert losses.total.item() == pytest.approx(2.33333, abs=1e-5)
    losses.total.backward()
    assert per_sample.grad is not None
    assert per_sample.grad.tolist() == pytest.approx([-0.25, 0.08333, 0.41667, 0.75], abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_penalty_is_on_the_adversarial_cross_entropy(method: str) -> None:
    run = image_run(*METHODS[method], DeMem(strength=0.4))
    batch = run.defense.batch(run, image_batch(8))
    losses = run.losses(batch)
    shown = getattr(batch, "adversarial", batch.inputs)
    by_hand = torch.nn.functional.cross_entropy(run.model(shown), batch.labels, reduction="none")
    torch.testing.assert_close(losses.penalties["demem"], 0.4 * by_hand.var(unbiased=True))
    bare = image_run(*METHODS[method])
    torch.testing.assert_close(losses.objective, bare.losses(batch).total)
    torch.testing.assert_close(losses.total, losses.objective + losses.penalties["demem"])


@pytest.mark.parametrize("method", METHODS)
def test_a_strength_of_zero_is_the_method_bit_for_bit(method: str) -> None:
    config = small_config(epochs=2, augmentation="flip")
    plain = fit(image_rows(), config, *METHODS[method])
    for mode in ("var", "topk_mem"):
        none = fit(image_rows(), config, *METHODS[method], DeMem(strength=0, mode=mode))
        assert equal_bits(none.weights(2), plain.weights(2))
        assert none.histories == plain.histories
    run = image_run(*METHODS[method], DeMem(strength=0))
    assert not run.losses(run.defense.batch(run, image_batch(4))).penalties
    some = fit(image_rows(), config, *METHODS[method], DeMem(strength=0.4))
    assert not equal_bits(some.weights(2), plain.weights(2))


def test_the_losses_end_nearer_together() -> None:
    config = small_config(epochs=20, learning_rate=0.02)

    def spread(*defenses: Defense) -> float:
        rows = image_rows(24)
        model = small_model(rows)()
        model.load_state_dict(fit(rows, config, *defenses).weights(20))
        model.eval()
        inputs = torch.from_numpy(images_of(rows)).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            logits = model(inputs)
        return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(rows.labels), reduction="none").var())

    assert spread(DeMem(strength=1.0)) < 0.7 * spread()


@pytest.mark.parametrize("mode", ["var", "topk_mem"])
@pytest.mark.parametrize("method", ["standard", "trades_awp"])
def test_a_training_resumed_at_any_epoch_equals_an_undisturbed_one(mode: Any, method: str) -> None:
    config = small_config(epochs=5, augmentation="flip")
    defenses = (*METHODS[method], DeMem(strength=0.5, mode=mode, top=0.5))
    undisturbed = fit(image_rows(), config, *defenses)
    for stop in (1, 3, 4):
        keeper = MemoryKeeper(stop_at=stop)
        with pytest.raises(InterruptedRunError):
            fit(image_rows(), config, *defenses, keeper=keeper)
        keeper.stop_at = None
        fit(image_rows(), config, *defenses, keeper=keeper)
        assert equal_bits(keeper.weights(5), undisturbed.weights(5))


def test_the_modes_differ() -> None:
    config = small_config(epochs=4)
    modes: list[Any] = ["var", "var_low", "var_high", "std", "class_variance", "topk_mem"]
    found = [fit(image_rows(), config, DeMem(strength=0.5, mode=mode)).weights(4) for mode in modes]
    assert not any(equal_bits(found[i], found[j]) for i in range(6) for j in range(i))


def test_the_top_of_the_scores_is_penalized_by_record() -> None:
    """Two epochs of one batch of eight whose losses are set: scores are drops of the loss, averaged."""
    defense = DeMem(strength=1.0, mode="topk_mem", top=0.25, memory=0.5)
    run = image_run(defense)
    run.sampler = lambda epoch: iter([np.roll(np.arange(8), epoch)])
    targets = image_batch(8)

    def step(epoch: int, by_record: list[float]) -> tuple[float, list[float]]:
        run.epoch = epoch
        numbers = np.roll(np.arange(8), epoch)
        per_sample = torch.tensor([by_record[number] for number in numbers], requires_grad=True)
        defense.batch(run, targets)
        losses = defense.losses(run, targets, lambda: Losses({"ce": per_sample}, per_sample.mean(), torch.zeros(8, 3)))
        defense.update(run, targets, lambda: torch.zeros(()))
        penalty = losses.penalties["demem"]
        penalty.backward()
        assert per_sample.grad is not None
        gradient = dict(zip(numbers.tolist(), per_sample.grad.tolist(), strict=True))
        return penalty.item(), [gradient[number] for number in range(8)]

    assert step(0, [5.0] * 8) == (0, [0] * 8)  # nothing is known
    assert step(1, [4.0, 5, 1, 5, 5, 5, 5, 5]) == (0, [0] * 8)  # drops of 1 and 4, by records 0 and 2
    value, gradient = step(2, [3.0, 5, 0, 5, 5, 5, 5, 0])
    assert value == pytest.approx(4.5)  # the variance of 3 and 0
    assert gradient == pytest.approx([3, 0, -3, 0, 0, 0, 0, 0])
    # Scores now: (1 + 1)/2, (4 + 1)/2 and, of record 7, 5/2: the last two are the top, whatever their order.
    value, gradient = step(3, [3.0, 5, 1, 5, 5, 5, 5, 0])
    assert value == pytest.approx(0.5)
    assert gradient == pytest.approx([0, 0, 1, 0, 0, 0, 0, -1])


def test_a_study_trains_it_on_real_images(digits: Records, store: CountingStore) -> None:
    entry = {"trades": {"steps": 1}, "demem": {"strength": [0.0, 0.4]}}
    blueprint, [_, *settings] = study_of(digits, entry, plan__targets=1, training__epochs=1)
    models = [blueprint.result(setting).targets[0].signals.model for setting in settings]
    kept = []
    for model in models:
        make(model, Bench(digits, store))
        kept.append(store.read(model.artifacts[0])[0])
    assert models[0].key != models[1].key
    assert kept[0] != kept[1]


def test_it_must_be_written_after_the_method() -> None:
    for method in (PGDAT(), TRADES(), MART(), TRADESAWP()):
        with pytest.raises(
            InputError, match=rf"^demem: would not see what {method.name} crafts; write demem after it$"
        ):
            image_run(DeMem(strength=0.2), method)
    image_run(DeMem(strength=0.2), LabelSmoothing(epsilon=0.1))


def test_dp_sgd_is_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match=r"dp_sgd and demem cannot be combined: .* demem couples records"):
        Composed((DPSGD(epsilon=8), DeMem(strength=0.2)))


def test_several_workers_remember_no_scores() -> None:
    nobody = np.zeros(0, dtype=np.int64)
    context = Context(nobody, nobody, 3, 0, lambda *_: None, lambda wanted: None, workers=2)
    assert DeMem(strength=0.2).requires(context) == {}
    with pytest.raises(InputError, match=r"^demem: mode topk_mem .* set engine.workers_per_model to 1$"):
        DeMem(strength=0.2, mode="topk_mem").requires(context)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "demem.strength: is missing"),
        ({"strength": -0.1}, "demem.strength: "),
        ({"strength": 1, "mode": "variance"}, "demem.mode: "),
        ({"strength": 1, "top": 0}, "demem.top: "),
        ({"strength": 1, "memory": 1}, "demem.memory: "),
    ],
)
def test_bad_hyperparameters_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_defense("demem", given)
    assert "\n" not in str(caught.value)


def test_the_spaces_hold_the_papers_sweeps() -> None:
    settings = load_space("demem_lambda").settings(0)
    found = [(one.name, one.hyperparameters.get("demem.strength")) for one in settings]
    assert found == [
        ("none", None),
        *(("pgd_at+demem", strength) for strength in (0, 0.2, 0.4, 0.6)),
        *(("trades+demem", strength) for strength in (0, 0.2, 0.3, 0.4)),
    ]
    names = [setting.name for setting in load_space("adversarial_training").settings(0)]
    assert names == ["none", "pgd_at", "trades", "mart", "pgd_at+awp", "trades_awp"]
