"""Scores end to end: nothing to find in an untrained model, much in one that learned by heart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raymia.attacks import ATTACKS, AttackerView, Needs, References, Signals, attack_named
from raymia.keys import content_key
from raymia.metrics.populations import ALL, DIRECT, INDIRECT
from raymia.models import build_model
from raymia.recipes.ground import Ground
from raymia.recipes.queries import asked
from raymia.recipes.recipe import Bench, Recipe, make
from raymia.recipes.scores import ScoresRecipe, Witness
from raymia.recipes.signals import SignalsRecipe, pack_arrays, unpack_arrays
from raymia.recipes.trained import TrainedModel
from raymia.recipes.witnesses import Witnesses
from raymia.records import Records
from raymia.records.plan import Exposure, Role, quad_plan, reference_membership
from raymia.seeds import derive_seed
from raymia.store import Store
from raymia.training.defense import Composed
from tests.recipes.conftest import CountingStore, ground_of, study_of


@dataclass(frozen=True, eq=False)
class Untrained:
    """A model that has seen nobody: its answers come from its random start."""

    ground: Ground
    stream: tuple[str | int, ...]
    positions: NDArray[np.int64]

    kind = "models"
    workers = 1
    threads = 1
    gpus = 0.0
    artifacts: tuple[str, ...] = ()
    defense = Composed(())

    @cached_property
    def key(self) -> str:
        return content_key("untrained", [list(self.stream)])

    @property
    def label(self) -> str:
        return "untrained"

    @property
    def exposure(self) -> NDArray[np.int8]:
        return np.zeros(len(self.positions), dtype=np.int8)

    def requires(self) -> Sequence[Recipe]:
        return ()

    def build(self, bench: Bench) -> None:
        """There is nothing to keep."""

    def answers_need(self, epoch: int) -> Sequence[Recipe]:
        return ()

    def answer(self, bench: Bench, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        model, forms = (
            self.open(bench.store, bench.device, epoch),
            asked(bench.records.inputs[positions], self.ground.config.queries),
        )
        return np.stack([model.logits(form) for form in forms], axis=1)

    def open(self, store: Store, device: torch.device, epoch: int) -> TrainedModel:
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(0, *self.stream))
            model = build_model("cnn", (1, 8, 8), 10, {"widths": [4, 8, 8]})
        return TrainedModel(model.eval(), self.defense, device)

    bare = open

    def history(self, store: Store, epoch: int) -> list[float]:
        return []


def untrained_scores(ground: Ground, attack: str, target: int) -> ScoresRecipe:
    plan = quad_plan(ground.records, part_size=100, seed=0, target=target)

    def witness(positions: NDArray[np.int64], members: NDArray[np.int64], *stream: str | int) -> Witness:
        answers = SignalsRecipe(Untrained(ground, stream, members), 0, positions)
        return Witness(answers, exposure_of(np.isin(positions, members)))

    halves = reference_membership(len(plan.scored), models=16, seed=0, target=target)
    references = [
        witness(plan.scored, plan.scored[half], "reference", target, number) for number, half in enumerate(halves)
    ]
    scored = witness(plan.scored, plan[Role.TARGET_IN], "target", target)
    shadow = witness(plan.shadow, plan[Role.SHADOW_IN], "shadow", target)
    outside = [SignalsRecipe(one.signals.model, 0, plan.shadow) for one in (scored, *references)]
    return Witnesses(scored, shadow, tuple(references), tuple(outside)).scores(attack_named(attack), ALL)


def exposure_of(member: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Members are trained on."""
    return np.where(member, Exposure.DIRECT, Exposure.OUT).astype(np.int8)


def flipped(exposure: NDArray[np.int8]) -> NDArray[np.int8]:
    """Members for non-members."""
    return exposure_of(exposure == Exposure.OUT)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_untrained_model_gives_nobody_away(digits: Records, bench: Bench, attack: str) -> None:
    """AUC 0.5 lies within the 95% interval, for all but the odd one of ten targets, and on average it is there."""
    ground = ground_of(digits, {"queries": ["identity", "shifts"]})
    found = []
    for target in range(10):
        recipe = untrained_scores(ground, attack, target)
        make(recipe, bench)
        found.append(recipe.metrics(bench.store))
    # P(three or more of ten miss) is 1%; the mean of ten AUCs has a deviation of 0.041 / sqrt(10) = 0.013.
    assert sum(one.auc_low <= 0.5 <= one.auc_high for one in found) >= 8
    assert np.mean([one.auc for one in found]) == pytest.approx(0.5, abs=0.04)
    assert all(one.auc_high - one.auc_low < 0.2 for one in found)


@dataclass(frozen=True)
class Spy:
    """An attack that notes which references are IN and OUT of the records."""

    seen: list[References]

    name = "spy"
    knowledge = "all"
    needs = frozenset({Needs.OUT_REFERENCES})

    def fit(self, view: AttackerView, rng: np.random.Generator) -> None:
        assert view.records is not None
        self.seen.append(view.records.references)

    def score(self, state: None, block: Signals) -> NDArray[np.float64]:
        return block.logits_NQC[:, 0, 0].astype(np.float64)


def test_a_reference_counts_for_a_population_as_it_met_the_records(digits: Records, bench: Bench) -> None:
    ground = ground_of(digits, {"queries": ["identity", "shifts"]})
    recipe = untrained_scores(ground, "lira_offline", 0)
    rng = np.random.default_rng(0)
    met = rng.integers(0, 3, (16, len(recipe.exposure))).astype(np.int8)
    met[0] = Exposure.OUT
    references = tuple(replace(one, exposure=row) for one, row in zip(recipe.references, met, strict=True))
    for population, inside in ((ALL, met > 0), (DIRECT, met == 2), (INDIRECT, met == 1)):
        own = {ALL: 2, DIRECT: 2, INDIRECT: 1}[population]
        exposure = np.where(np.arange(len(recipe.exposure)) % 2, own, 0).astype(np.int8)
        spy = Spy([])
        make(replace(recipe, attack=spy, references=references, exposure=exposure, population=population), bench)
        np.testing.assert_array_equal(spy.seen[0].in_MN, inside)
        np.testing.assert_array_equal(spy.seen[0].out_MN, met == 0)


@pytest.fixture(scope="module")
def by_heart(noise: Records, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, ScoresRecipe]]:
    """A model that learned 100 random labels by heart, and its shadow, under every attack."""
    store = Store(str(tmp_path_factory.mktemp("by_heart")))
    blueprint, [setting] = study_of(
        noise,
        plan__part_size=100,
        plan__targets=1,
        plan__references=16,
        attacks=list(ATTACKS),
        queries=["identity", "shifts"],
        model__name="mlp",
        model__options={"hidden": [64]},
        training__epochs=60,
        training__batch_size=20,
    )
    result = blueprint.result(setting)
    make(result, Bench(noise, store))
    return store, {scores.measure: scores for scores in result.targets[0].scores if isinstance(scores, ScoresRecipe)}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_model_learned_by_heart_is_found(by_heart: tuple[Store, dict[str, ScoresRecipe]], attack: str) -> None:
    store, recipes = by_heart
    metrics = recipes[attack].metrics(store)
    assert metrics.auc_low > 0.5
    assert metrics.balanced_accuracy.value > 0.55
    assert metrics.balanced_accuracy_shadow is None or metrics.balanced_accuracy_shadow.value > 0.55
    assert recipes[attack].scores(store)[0].dtype == np.float64


@pytest.mark.parametrize("attack", ATTACKS)
def test_flipping_the_targets_membership_changes_no_score(
    by_heart: tuple[Store, dict[str, ScoresRecipe]], noise: Records, attack: str
) -> None:
    store, recipes = by_heart
    recipe = recipes[attack]
    opposed = replace(recipe, exposure=flipped(recipe.exposure))
    assert opposed.key != recipe.key
    make(opposed, Bench(noise, store))
    one, member = recipe.scores(store)
    other, opposite = opposed.scores(store)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(member, ~opposite)
    assert opposed.metrics(store).auc == pytest.approx(1 - recipe.metrics(store).auc)


def test_the_shadows_membership_does_change_them(
    by_heart: tuple[Store, dict[str, ScoresRecipe]], noise: Records
) -> None:
    store, recipes = by_heart
    recipe = recipes["nn_sorted_logits"]
    other = replace(recipe, shadow=replace(recipe.shadow, exposure=flipped(recipe.shadow.exposure)))
    assert other.key != recipe.key
    make(other, Bench(noise, store))
    assert other.metrics(store).auc < 0.5


def test_a_result_holds_each_targets_measurements(digits: Records, bench: Bench, store: CountingStore) -> None:
    blueprint, [setting] = study_of(digits)
    result = blueprint.result(setting)
    make(result, bench)
    measured = result.open(store)
    assert [seed.seed for seed in measured.seeds] == [0, 1]
    for seed, target in zip(measured.seeds, result.targets, strict=True):
        assert set(seed.attacks) == {"loss", "entropy"}
        assert seed.attacks["loss"] == target.scores[0].metrics(store)
        logits_NC = target.signals.open(store).logits_NQC[:, 0]
        right = logits_NC.argmax(axis=1) == digits.labels[target.signals.positions]
        assert seed.utility.train_accuracy == pytest.approx(right[target.member].mean())
        assert seed.utility.test_accuracy == pytest.approx(right[~target.member].mean())
    aucs = [seed.attacks["loss"].auc for seed in measured.seeds]
    assert measured.pooled["loss"].auc == pytest.approx(np.mean(aucs))
    accuracy, worst = measured.outcome["test_accuracy"], measured.outcome["worst_auc"]
    assert accuracy == pytest.approx(np.mean([seed.utility.test_accuracy for seed in measured.seeds]))
    assert worst == max(metrics.auc for metrics in measured.pooled.values())
    curves = [target.signals.model.history(store, 2) for target in result.targets]
    assert measured.train_loss == pytest.approx(np.mean(curves, axis=0))


def test_signals_are_the_models_answers_to_the_records_themselves(
    digits: Records, bench: Bench, store: CountingStore
) -> None:
    blueprint, [setting] = study_of(digits, plan__targets=1)
    signals = blueprint.result(setting).targets[0].scores[0].target
    make(signals, bench)
    kept = signals.open(store)
    assert kept.logits_NQC.shape == (80, 1, 10)
    assert kept.logits_NQC.dtype == np.float32
    np.testing.assert_array_equal(kept.labels_N, digits.labels[signals.positions])
    np.testing.assert_array_equal(kept.logits_NQC, signals.model.answer(bench, 2, signals.positions))


def test_packed_arrays_come_back_and_pickles_do_not() -> None:
    arrays = {"a": np.arange(3), "b": np.array([[1.5, np.inf]])}
    unpacked = unpack_arrays(pack_arrays(**arrays))
    assert set(unpacked) == {"a", "b"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(unpacked[name], array)
    with pytest.raises(ValueError, match="allow_pickle"):
        unpack_arrays(pack_arrays(a=np.array([{"x": 1}], dtype=object)))
