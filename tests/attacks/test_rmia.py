from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.attacks import AttackerView, References, Rmia, Signals, run_attack
from raymia.attacks.rmia import GRID, UNTRIED, share_reached, tuned_a
from raymia.errors import InputError
from raymia.records.plan import reference_membership
from tests.attacks.worlds import make_world, two_class_logits, world_of_confidences

Floats = NDArray[np.float64]
VARIANTS = [Rmia(online, counts) for online in (True, False) for counts in (True, False)]
EVERY = pytest.mark.parametrize("attack", VARIANTS, ids=lambda attack: attack.name)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def logit(p: Any) -> Floats:
    values = np.asarray(p, np.float64)
    return np.log(values) - np.log1p(-values)


def population_of(p_Z: Floats, p_MZ: Floats) -> Signals:
    """Records that nobody trained on, given the probabilities of their true class."""
    answers = [two_class_logits(logit(one_Z)[:, None]) for one_Z in p_MZ]
    strangers = References.of(answers, np.zeros(p_MZ.shape, dtype=bool))
    return Signals(two_class_logits(logit(p_Z)[:, None]), np.zeros(len(p_Z), dtype=np.int64), strangers)


def world_of(
    p_N: Floats, p_MN: Floats, in_MN: NDArray[np.bool_], population: Signals | None = None
) -> tuple[AttackerView, Signals]:
    return world_of_confidences(logit(p_N)[:, None], logit(p_MN)[:, :, None], in_MN, population=population)


def random_world(seed: int = 0, records: int = 60, strangers: int = 50) -> tuple[AttackerView, Signals]:
    draw = np.random.default_rng(seed)
    in_MN = np.arange(16)[:, None] % 2 == draw.integers(0, 2, records)
    population = population_of(draw.uniform(0.05, 0.95, strangers), draw.uniform(0.05, 0.95, (16, strangers)))
    return world_of(draw.uniform(0.05, 0.95, records), draw.uniform(0.05, 0.95, (16, records)), in_MN, population)


def test_the_known_offline_ratio() -> None:
    """methods: a = .3, P_OUT = .4, P(x|theta) = .9."""
    out_MN = np.zeros((1, 1), dtype=bool)  # one reference, which cannot rehearse: a is UNTRIED = .3
    view, target = world_of(np.array([0.9]), np.array([[0.4]]), out_MN)
    assert UNTRIED == 0.3
    assert run_attack(Rmia(online=False, counts=False), view, target, rng())[0] == pytest.approx(1.47541, abs=5e-6)


def test_the_online_ratio_is_to_the_mean_of_both_kinds() -> None:
    in_MN = np.array([[True], [True], [True], [True], [False], [False]])
    view, target = world_of(np.array([0.9]), np.array([[0.8], [0.9], [0.7], [0.8], [0.1], [0.3]]), in_MN)
    score = run_attack(Rmia(online=True, counts=False), view, target, rng())[0]
    assert score == pytest.approx(0.9 / ((0.8 + 0.2) / 2), rel=1e-6)


@pytest.mark.parametrize("online", [True, False])
def test_the_score_is_the_share_of_pairs(online: bool) -> None:
    view, target = random_world()
    attack = Rmia(online, counts=True)
    scores = run_attack(attack, view, target, rng())
    a = tuned_a(view, rng())
    assert view.population is not None
    assert view.population.references is not None

    def probability(signals: Signals) -> tuple[Floats, Floats]:
        answers = [signals.logits_NQC, *(one[:] for one in signals.references.answers)]  # type: ignore[union-attr]
        p = np.stack([1 / (1 + np.exp(-np.asarray(one, np.float64)[:, 0, 0])) for one in answers])
        return p[0], p[1:]

    (x, x_M), (z, z_M) = probability(target), probability(view.population)
    out_MN = target.references.out_MN  # type: ignore[union-attr]
    outside = np.array([x_M[out_MN[:, record], record].mean() for record in range(len(x))])
    inside = np.array([x_M[~out_MN[:, record], record].mean() for record in range(len(x))])
    ratio_x = x / (inside + outside) * 2 if online else x / (((1 + a) * outside + (1 - a)) / 2)
    ratio_z = z / (((1 + a) * z_M.mean(axis=0) + (1 - a)) / 2)
    assert scores == pytest.approx((ratio_x[:, None] >= 2 * ratio_z[None]).mean(axis=1))
    assert 0.02 < scores.mean() < 0.98


@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 1e300]) | st.floats(0, 4), min_size=1, max_size=30),
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 1e300]) | st.floats(0, 4), min_size=1, max_size=30),
    st.sampled_from([1.0, 1.5, 2.0]),
)
def test_sorting_equals_the_pairwise_form(ratio_N: list[float], ratio_Z: list[float], gamma: float) -> None:
    x, bars = np.array(ratio_N), gamma * np.array(ratio_Z)
    pairwise = (x[:, None] >= bars[None]).sum(axis=1) / len(bars)
    assert np.array_equal(share_reached(x, np.sort(bars)), pairwise)


@EVERY
def test_the_score_never_falls_as_the_target_gets_surer(attack: Rmia) -> None:
    view, _ = random_world(records=1)
    assert view.records is not None
    p_N = np.linspace(0.01, 0.99, 99)
    rows = np.zeros(99, dtype=np.int64)
    target = Signals(two_class_logits(logit(p_N)[:, None]), rows, view.records.references.take(rows))
    scores = run_attack(attack, view, target, rng())
    assert (np.diff(scores) >= 0).all()
    assert scores[-1] > scores[0]


@pytest.mark.parametrize("online", [True, False])
def test_counting_keeps_the_order_of_the_ratios(online: bool) -> None:
    view, target = random_world()
    shares, ratios = (run_attack(Rmia(online, counts), view, target, rng()) for counts in (True, False))
    assert (np.diff(shares[np.argsort(ratios)]) >= 0).all()
    assert np.allclose(shares * 50, np.round(shares * 50))


def test_gamma_raises_the_bar() -> None:
    view, target = random_world()
    low, high = (run_attack(Rmia(True, True, gamma), view, target, rng()) for gamma in (1.0, 3.0))
    assert (low >= high).all()
    assert low.mean() > high.mean() + 0.2


@pytest.mark.parametrize("online", [True, False])
def test_a_population_of_the_scored_records_themselves_works(online: bool) -> None:
    view, target = random_world()
    itself = replace(view, population=target)
    scores = run_attack(Rmia(online, counts=True), itself, target, rng())
    assert np.allclose(scores * 60, np.round(scores * 60))
    assert (scores < 1).all()  # x never beats twice its own ratio


def offline_world(a: float, records: int = 4000) -> AttackerView:
    """IN models' probabilities are a · P_OUT + 1 - a, as the offline formula has it, with noise of the models."""
    draw = rng()
    outside_N = draw.uniform(0.1, 0.9, records)
    in_MN = reference_membership(records, models=16, seed=0, target=0)
    p_MN = np.where(in_MN, a * outside_N + (1 - a), outside_N)
    phi_MN = logit(p_MN) + 0.3 * draw.normal(size=p_MN.shape)
    return world_of_confidences(np.zeros((records, 1)), phi_MN[:, :, None], in_MN)[0]


def test_a_is_tuned_to_how_in_models_differ() -> None:
    low, high = tuned_a(offline_world(0.3), rng()), tuned_a(offline_world(0.9), rng())
    assert {low, high} <= set(GRID)
    assert low < high - 0.2


def test_a_does_not_depend_on_the_target() -> None:
    view, _ = random_world()
    assert view.population is not None
    states = []
    for flipped in (False, True):
        logits = view.population.logits_NQC[::-1] if flipped else view.population.logits_NQC
        states.append(
            Rmia(True, True).fit(replace(view, population=replace(view.population, logits_NQC=logits)), rng()).a
        )
    assert states[0] == states[1] == tuned_a(view, rng())


def test_several_queries_are_averaged_before_they_are_compared() -> None:
    in_MN = np.array([[True], [True], [True], [True], [False], [False]])
    draw = rng()
    p_MQ, own_Q = draw.uniform(0.2, 0.9, (6, 2)), np.array([0.9, 0.5])
    view, target = world_of_confidences(logit(own_Q)[None], logit(p_MQ)[:, None], in_MN)
    score = run_attack(Rmia(online=True, counts=False), view, target, rng())[0]
    assert score == pytest.approx(0.7 / ((p_MQ[:4].mean() + p_MQ[4:].mean()) / 2), rel=1e-6)


@EVERY
def test_probabilities_of_zero_and_one_give_finite_scores(attack: Rmia) -> None:
    in_MN = np.arange(16)[:, None] % 2 == np.arange(6) % 2
    phi_MNQ = np.where(in_MN, 5000.0, -5000.0)[:, :, None]
    phi_NQ = np.tile([-5000.0, 0.0, 5000.0], 2)[:, None]
    view, target = world_of_confidences(phi_NQ, phi_MNQ, in_MN)
    strangers = replace(target, references=References.of(list(view.records.references.answers), in_MN & False))  # type: ignore[union-attr]
    scores = run_attack(attack, replace(view, population=strangers), target, rng())
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("online", [True, False])
def test_a_population_without_the_references_answers_is_refused(online: bool) -> None:
    view, target = random_world()
    assert view.population is not None
    attack = Rmia(online, counts=True)
    with pytest.raises(InputError, match=f"{attack.name} needs the references' answers on the population"):
        run_attack(attack, replace(view, population=replace(view.population, references=None)), target, rng())
    for population in (view.population.take(slice(0, 0)), replace(target, references=nobody_out(target))):
        with pytest.raises(InputError, match=f"{attack.name} needs population records that reference models are OUT"):
            run_attack(attack, replace(view, population=population), target, rng())


def nobody_out(target: Signals) -> References:
    assert target.references is not None
    return replace(target.references, out_MN=target.references.out_MN & False)


@pytest.mark.parametrize("online", [True, False])
def test_population_records_that_all_references_trained_on_do_not_count(online: bool) -> None:
    view, target = random_world()
    assert view.population is not None
    assert view.population.references is not None
    out_MN = view.population.references.out_MN.copy()
    out_MN[:, 10:] = False
    some = replace(view.population, references=replace(view.population.references, out_MN=out_MN))
    scores = run_attack(Rmia(online, True), replace(view, population=some), target, rng())
    few = run_attack(Rmia(online, True), replace(view, population=view.population.take(slice(0, 10))), target, rng())
    assert np.array_equal(scores, few)


def test_rmia_convicts_an_over_fitted_model(auc: Callable[..., float]) -> None:
    world = make_world(3, edge=3.0, records=600)
    for attack in VARIANTS:
        assert auc(run_attack(attack, world.view, world.target, rng()), world.member_N) > 0.95
