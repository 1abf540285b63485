"""What every registered attack must hold."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from raymia.attacks import (
    ATTACKS,
    Attack,
    AttackerView,
    LabelOnlyAugmentation,
    Needs,
    QuantileRegression,
    ReferenceRecords,
    References,
    SalemNN,
    Scores,
    ShadowSignals,
    Signals,
    run_attack,
    shadow_threshold,
)
from raymia.attacks.gaussian_regressor import Steps
from raymia.errors import InputError
from tests.attacks.worlds import World, make_world

Logits = NDArray[np.float32]
EVERY = pytest.mark.parametrize("attack", ATTACKS.values(), ids=lambda attack: attack.name)
ALL_QUERIES = {Needs.QUERIES, Needs.OUT_REFERENCES, Needs.IN_REFERENCES}  # attacks that look at more than the record


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def quick(attack: Attack) -> Attack:
    """The same attack with a short training, where the net's quality is not what is tested."""
    if isinstance(attack, SalemNN | LabelOnlyAugmentation):
        return replace(attack, schedule=replace(attack.schedule, epochs=5))
    if isinstance(attack, QuantileRegression):
        return replace(attack, steps=Steps(steps=5, every=5))
    return attack


@EVERY
def test_over_fitted_members_score_higher(attack: Attack, auc: Callable[..., float]) -> None:
    world = make_world(1, edge=3.0, records=600)
    assert auc(run_attack(attack, world.view, world.target, rng()), world.member_N) > 0.6


@EVERY
def test_noise_gives_chance(attack: Attack, auc: Callable[..., float]) -> None:
    values = []
    for repeat in range(16):
        world = make_world(100 + repeat, edge=0.0, records=400)
        values.append(auc(run_attack(quick(attack), world.view, world.target, rng()), world.member_N))
    assert abs(np.mean(values) - 0.5) < 0.03  # 4 standard errors: .029 a repeat, 16 repeats


def test_the_view_and_the_signals_have_no_place_for_the_targets_membership() -> None:
    assert {field.name for field in fields(AttackerView)} == {"classes", "shadows", "records", "population"}
    assert {field.name for field in fields(ReferenceRecords)} == {"labels_N", "references"}
    assert {field.name for field in fields(References)} == {"answers", "rows_N", "in_MN", "out_MN"}
    assert {field.name for field in fields(Signals)} == {
        "logits_NQC",
        "labels_N",
        "references",
        "gradient_norm_N",
        "inputs_N",
        "adversarial",
    }


@dataclass(frozen=True)
class _Leaky(Signals):
    """Signals that carry what an attack must not see."""

    member_N: Any = None


class _Watched:
    """Passes calls on to an attack and keeps all that it was shown."""

    def __init__(self, attack: Attack) -> None:
        self.attack = attack
        self.name, self.knowledge, self.needs = attack.name, attack.knowledge, attack.needs
        self.shown: list[Any] = []

    def fit(self, view: AttackerView, rng: np.random.Generator) -> Any:
        self.shown.append(view)
        return self.attack.fit(view, rng)

    def score(self, state: Any, block: Signals) -> Scores:
        self.shown.append(block)
        return self.attack.score(state, block)


@EVERY
def test_flipping_the_targets_membership_changes_no_score(attack: Attack) -> None:
    world = make_world(1, edge=2.0, records=60)
    scores = []
    for member_N in (world.member_N, ~world.member_N, rng().permutation(world.member_N)):
        watched = _Watched(quick(attack))
        leaky = _Leaky(**vars(world.target), member_N=member_N)
        scores.append(run_attack(watched, world.view, leaky, rng()))
        assert watched.shown[0] is world.view
        assert not any(hasattr(shown, "member_N") for shown in watched.shown)
    assert np.array_equal(scores[0], scores[1])
    assert np.array_equal(scores[0], scores[2])


def uneven(world: World) -> World:
    """The same world, but that of every record some models are neither IN nor OUT."""
    assert world.target.references is not None
    judged_MN = rng().random((len(world.target.references), len(world.target))) < 0.7
    judged_MN[:4] = True
    taken = world.target.references
    references = replace(taken, in_MN=taken.in_MN & judged_MN, out_MN=taken.out_MN & judged_MN)
    records = ReferenceRecords(world.target.labels_N, references)
    return World(replace(world.view, records=records), replace(world.target, references=references), world.member_N)


@EVERY
@pytest.mark.parametrize("size", [1, 7, 64])
def test_scores_depend_on_each_record_alone(attack: Attack, size: int) -> None:
    world = uneven(make_world(1, edge=2.0, records=201, classes=10, queries=3))
    attack = quick(attack)
    state = attack.fit(world.view, rng())
    blocks = [world.target.take(slice(start, start + size)) for start in range(0, len(world.target), size)]
    apart = np.concatenate([attack.score(state, block) for block in blocks])
    assert np.array_equal(attack.score(state, world.target), apart)


@EVERY
def test_permuting_the_records_permutes_the_scores(attack: Attack) -> None:
    world = make_world(1, edge=2.0, records=201)
    order = rng().permutation(201)
    scores = run_attack(quick(attack), world.view, world.target, rng())
    assert np.array_equal(run_attack(quick(attack), world.view, world.target.take(order), rng()), scores[order])


@EVERY
def test_equal_answers_tie_wherever_they_lie(attack: Attack) -> None:
    world = make_world(1, edge=2.0)
    many = world.target.take(np.repeat(np.arange(3), 333))
    scores = run_attack(quick(attack), world.view, many, rng())
    assert (scores.reshape(3, 333) == scores.reshape(3, 333)[:, :1]).all()


@EVERY
def test_the_same_seed_gives_the_same_scores(attack: Attack) -> None:
    world, attack = make_world(1, edge=2.0), quick(attack)
    assert np.array_equal(
        run_attack(attack, world.view, world.target, rng()), run_attack(attack, world.view, world.target, rng())
    )
    assert shadow_threshold(attack, world.view, rng()) == shadow_threshold(attack, world.view, rng())


@EVERY
def test_the_attackers_own_models_give_a_threshold_that_serves(attack: Attack, auc: Callable[..., float]) -> None:
    world = make_world(1, edge=4.0, records=400)
    threshold = shadow_threshold(attack, world.view, rng())
    if Needs.IMAGES in attack.needs:
        assert threshold is None  # of references' records it sees no images
        return
    assert threshold is not None
    guess_N = run_attack(attack, world.view, world.target, rng()) >= threshold
    assert (guess_N[world.member_N].mean() + (~guess_N)[~world.member_N].mean()) / 2 > 0.6


def of_first_query(signals: Signals) -> Signals:
    references = signals.references
    if references is not None:
        references = replace(references, answers=[one[:, :1] for one in cast(list[Logits], references.answers)])
    return replace(signals, logits_NQC=signals.logits_NQC[:, :1], references=references)


@EVERY
def test_without_a_need_only_the_record_itself_is_asked(attack: Attack) -> None:
    world = make_world(1, edge=2.0, queries=3)
    scores = run_attack(quick(attack), world.view, world.target, rng())
    logits_NQC = world.target.logits_NQC.copy()
    logits_NQC[:, 1:] = rng().permutation(logits_NQC[:, 1:])
    others = run_attack(quick(attack), world.view, replace(world.target, logits_NQC=logits_NQC), rng())
    assert np.array_equal(scores, others) == (not attack.needs & ALL_QUERIES)
    if not attack.needs & ALL_QUERIES:
        shadows = [ShadowSignals(of_first_query(one.signals), one.member_N) for one in world.view.shadows]
        view = replace(world.view, shadows=shadows, population=of_first_query(world.view.population or world.target))
        assert np.array_equal(scores, run_attack(quick(attack), view, of_first_query(world.target), rng()))


EXTREME = [[1e4, -1e4, 0, 0, 0], [-1e4] * 4 + [1e4], [0] * 5, [1e4] * 5, [-np.inf] * 4 + [0], [1, 2, 3, 4, -np.inf]]


@EVERY
@pytest.mark.parametrize("where", ["target", "shadow", "references", "population", "everywhere"])
def test_extreme_answers_give_no_nan(attack: Attack, where: str) -> None:
    labels_N, logits_NC = np.tile(np.arange(5), 6), np.repeat(np.array(EXTREME, np.float32), 5, axis=0)
    extreme_NQC = np.repeat(logits_NC[:, None], 2, axis=1)
    world = make_world(1, edge=2.0, records=30)

    def made_extreme(signals: Signals, part: str) -> Signals:
        references = signals.references
        if references is not None and where in ("references", "everywhere"):
            references = replace(references, answers=[extreme_NQC] * len(references))
        logits_NQC = extreme_NQC if where in (part, "everywhere") else signals.logits_NQC
        return replace(signals, logits_NQC=logits_NQC, labels_N=labels_N, references=references)

    target = made_extreme(world.target, "target")
    assert target.references is not None
    assert world.view.population is not None
    view = AttackerView(
        5,
        [ShadowSignals(made_extreme(one.signals, "shadow"), one.member_N) for one in world.view.shadows],
        ReferenceRecords(labels_N, target.references),
        made_extreme(world.view.population, "population"),
    )
    scores = run_attack(quick(attack), view, target, rng())
    assert not np.isnan(scores).any()  # run_attack raises for NaN, too
    threshold = shadow_threshold(quick(attack), view, rng())
    assert threshold is None or np.isfinite(threshold)


@EVERY
def test_no_records_give_no_scores(attack: Attack) -> None:
    world = make_world(1, edge=2.0, records=20)
    assert run_attack(quick(attack), world.view, world.target.take(slice(0, 0)), rng()).shape == (0,)


def without(world: World, need: Needs) -> tuple[AttackerView, Signals]:
    """The world less what the need asks for."""
    view, target = world.view, world.target
    if need is Needs.SHADOW:
        return replace(view, shadows=()), target
    if need is Needs.POPULATION:
        return replace(view, population=None), target
    if need is Needs.QUERIES:
        target, population = of_first_query(target), of_first_query(view.population or target)
        assert target.references is not None
        records = ReferenceRecords(target.labels_N, target.references)
        return replace(view, records=records, population=population), target
    if need is Needs.GRADIENT_NORM:
        return view, replace(target, gradient_norm_N=None)
    if need is Needs.IMAGES:
        return view, replace(target, inputs_N=None)
    if need is Needs.ADVERSARIAL_QUERIES:
        return view, replace(target, adversarial=False)
    return replace(view, records=None), replace(target, references=None)


@EVERY
def test_an_attack_names_what_it_lacks_and_asks_for_no_more(attack: Attack) -> None:
    world = make_world(1, edge=2.0, records=20)
    for need in Needs:
        view, target = without(world, need)
        needed = attack.needs & {need}
        if need in (Needs.OUT_REFERENCES, Needs.IN_REFERENCES):
            needed = attack.needs & {Needs.OUT_REFERENCES, Needs.IN_REFERENCES}
        if needed:
            with pytest.raises(InputError, match=f"{attack.name} needs {next(iter(needed))}") as caught:
                run_attack(attack, view, target, rng())
            assert "\n" not in str(caught.value)
        else:
            assert run_attack(quick(attack), view, target, rng()).shape == (20,)


@EVERY
def test_attacks_are_frozen_and_say_what_they_know(attack: Attack) -> None:
    assert attack.knowledge
    assert "\n" not in attack.knowledge
    assert hash(attack) == hash(replace(attack))  # type: ignore[type-var]


def test_run_attack_refuses_scores_that_break_the_promise() -> None:
    target = make_world(1, edge=2.0, records=20).target

    class Broken(_Watched):
        def __init__(self, broken: Any) -> None:
            super().__init__(ATTACKS["loss"])
            self.broken = broken

        def score(self, state: Any, block: Signals) -> Scores:
            return self.broken

    for broken in (np.zeros(20, np.float32), np.zeros(19), np.zeros((20, 1)), np.full(20, np.nan)):
        with pytest.raises(ValueError, match="one float64 a record"):
            run_attack(Broken(broken), AttackerView(5), target, rng())
