from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from raymia.attacks import AttackerView, Lira, LiraForm, Signals, VarianceRule, run_attack
from raymia.attacks.rehearsal import rehearsals
from raymia.errors import InputError
from raymia.records.plan import reference_membership
from tests.attacks.worlds import world_of_confidences

Floats = NDArray[np.float64]
FORMS = pytest.mark.parametrize("form", list(LiraForm))
RULES = pytest.mark.parametrize("rule", list(VarianceRule))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scores_of(form: LiraForm, rule: VarianceRule, view: AttackerView, target: Signals) -> Floats:
    return run_attack(Lira(form, rule), view, target, rng())


def uneven_world(records: int = 40, models: int = 24, queries: int = 2) -> tuple[Floats, Floats, Any, Any]:
    """phi of target and references; of every record some models are IN, some OUT, some neither."""
    draw = rng(3)
    kind_MN = draw.choice(["in", "out", "neither"], p=[0.4, 0.4, 0.2], size=(models, records))
    kind_MN[:4], kind_MN[4:8] = "in", "out"
    center_NQ = draw.normal(0, 3, (records, queries))
    phi_MNQ = center_NQ + 2 * (kind_MN == "in")[:, :, None] + draw.normal(size=(models, records, queries))
    return center_NQ + draw.normal(size=center_NQ.shape), phi_MNQ, kind_MN == "in", kind_MN == "out"


def by_hand(form: LiraForm, phi: float, inside_K: Floats, outside_K: Floats, deviations: tuple[float, float]) -> float:
    """One record and query."""
    outside = norm(np.median(outside_K), deviations[1])
    if form is LiraForm.OFFLINE:
        return float((phi - outside.mean()) / outside.std())
    if form is LiraForm.OFFLINE_TWO_SIDED:
        return float(-outside.logpdf(phi))
    return float(norm(np.median(inside_K), deviations[0]).logpdf(phi) - outside.logpdf(phi))


@FORMS
@pytest.mark.parametrize("rule", [VarianceRule.PER_EXAMPLE, VarianceRule.FIXED_RESIDUAL, VarianceRule.FIXED_OFFICIAL])
def test_the_same_as_a_loop_with_scipys_normal(form: LiraForm, rule: VarianceRule) -> None:
    phi_NQ, phi_MNQ, in_MN, out_MN = uneven_world()
    phi_NQ, phi_MNQ = (phi.astype(np.float32).astype(np.float64) for phi in (phi_NQ, phi_MNQ))
    scores = scores_of(form, rule, *world_of_confidences(phi_NQ, phi_MNQ, in_MN, out_MN))

    def deviation(mask_MN: Any, record: int, query: int) -> float:
        values_MN = phi_MNQ[:, :, query]
        if rule is VarianceRule.PER_EXAMPLE:
            return float(values_MN[mask_MN[:, record], record].std(ddof=1))
        if rule is VarianceRule.FIXED_OFFICIAL:
            return float(phi_MNQ[in_MN if form is LiraForm.ONLINE else out_MN].std())
        residuals = [values_MN[mask, number] for number, mask in enumerate(mask_MN.T)]
        squares = sum(((one - one.mean()) ** 2).sum() for one in residuals)
        return float(np.sqrt(squares / sum(len(one) - 1 for one in residuals)))

    for record, inside_M, outside_M in zip(range(len(phi_NQ)), in_MN.T, out_MN.T, strict=True):
        terms = [
            by_hand(
                form,
                phi_NQ[record, query],
                phi_MNQ[inside_M, record, query],
                phi_MNQ[outside_M, record, query],
                (deviation(in_MN, record, query), deviation(out_MN, record, query)),
            )
            for query in range(phi_NQ.shape[1])
        ]
        assert scores[record] == pytest.approx(np.mean(terms), rel=1e-9, abs=1e-9)


@FORMS
def test_the_rule_follows_the_number_of_models_and_so_does_the_rehearsal(form: LiraForm) -> None:
    for models, rule in ((16, "fixed_residual"), (112, "fixed_residual"), (128, "per_example")):
        in_MN = reference_membership(30, models=models, seed=0, target=0)
        phi_MNQ = rng().normal(size=(models, 30, 1)) + in_MN[:, :, None]
        view, target = world_of_confidences(rng(1).normal(size=(30, 1)), phi_MNQ, in_MN)
        automatic, explicit = Lira(form), Lira(form, VarianceRule(rule))
        assert np.array_equal(run_attack(automatic, view, target, rng()), run_attack(explicit, view, target, rng()))
        others = next(rehearsals(view, automatic.needs, rng()))
        rehearsed = run_attack(automatic, others.view, others.target, rng())
        assert np.array_equal(rehearsed, run_attack(explicit, others.view, others.target, rng()))


@pytest.mark.parametrize("rule", list(VarianceRule))
@FORMS
def test_several_queries_score_the_mean_of_each(form: LiraForm, rule: VarianceRule) -> None:
    phi_NQ, phi_MNQ, in_MN, out_MN = uneven_world()
    if rule is VarianceRule.FIXED_OFFICIAL:  # whose variance is over all queries
        phi_NQ, phi_MNQ = np.repeat(phi_NQ[:, :1], 2, axis=1), np.repeat(phi_MNQ[:, :, :1], 2, axis=2)
    together = scores_of(form, rule, *world_of_confidences(phi_NQ, phi_MNQ, in_MN, out_MN))
    alone = [
        scores_of(form, rule, *world_of_confidences(phi_NQ[:, [query]], phi_MNQ[:, :, [query]], in_MN, out_MN))
        for query in range(2)
    ]
    assert together == pytest.approx(np.mean(alone, axis=0))


def test_the_offline_score_orders_as_the_papers_probability_and_does_not_saturate() -> None:
    in_MN = reference_membership(3, models=16, seed=0, target=0)
    phi_MNQ = np.where(in_MN, 5.0, rng().normal(size=in_MN.shape))[:, :, None]
    phi_NQ = np.linspace(-3, 3, 101)[:, None]
    view, target = world_of_confidences(
        phi_NQ, np.repeat(phi_MNQ[:, :1], 101, axis=1), np.repeat(in_MN[:, :1], 101, axis=1)
    )
    scores = scores_of(LiraForm.OFFLINE, VarianceRule.PER_EXAMPLE, view, target)
    assert np.array_equal(np.argsort(norm.cdf(scores)), np.argsort(scores))
    view, target = world_of_confidences(
        phi_NQ + 100, np.repeat(phi_MNQ[:, :1], 101, axis=1), np.repeat(in_MN[:, :1], 101, axis=1)
    )
    scores = scores_of(LiraForm.OFFLINE, VarianceRule.PER_EXAMPLE, view, target)
    assert (norm.cdf(scores) == 1).all()
    assert (np.diff(scores) > 0).all()


def test_only_the_two_sided_score_takes_low_confidence_for_membership() -> None:
    in_MN = np.zeros((16, 3), dtype=bool)
    in_MN[8:] = True
    phi_MNQ = np.where(in_MN, 4.0, 0.0)[:, :, None] + rng().normal(size=(16, 3, 1))
    view, target = world_of_confidences(np.array([[-6.0], [0.0], [6.0]]), phi_MNQ, in_MN)
    low, middle, high = scores_of(LiraForm.OFFLINE, VarianceRule.AUTOMATIC, view, target)
    assert low < middle < high
    low, middle, high = scores_of(LiraForm.OFFLINE_TWO_SIDED, VarianceRule.AUTOMATIC, view, target)
    assert min(low, high) > middle
    low, middle, high = scores_of(LiraForm.ONLINE, VarianceRule.AUTOMATIC, view, target)
    assert low < middle < high


def simulated(
    seed: int, freedom: float, inside_scale: float = 1.0, records: int = 20_000
) -> tuple[AttackerView, Signals, NDArray[np.bool_]]:
    """16 models; the squares of the records' deviations are scaled inverse chi². IN models' phi lies 1.5 of them higher
    and varies inside_scale times as much.
    """
    draw = rng(seed)
    deviation_N = np.sqrt(freedom / draw.chisquare(freedom, records))
    center_N = draw.normal(0, 4, records)
    in_MN = reference_membership(records, models=16, seed=seed, target=0)
    member_N = draw.random(records) < 0.5

    def phi(inside: NDArray[np.bool_]) -> Floats:
        noise = np.where(inside, inside_scale, 1.0) * draw.normal(size=inside.shape)
        return center_N + deviation_N * (1.5 * inside + noise)

    return *world_of_confidences(phi(member_N)[:, None], phi(in_MN)[:, :, None], in_MN), member_N


def powers(
    form: LiraForm, rules: Sequence[VarianceRule], freedom: float, inside_scale: float = 1.0
) -> list[tuple[float, float]]:
    """Of each rule: AUC and TPR at 1% FPR, means over three worlds."""
    found = []
    for seed in range(3):
        view, target, member_N = simulated(seed, freedom, inside_scale)
        for rule in rules:
            scores = scores_of(form, rule, view, target)
            inside, outside = scores[member_N], np.sort(scores[~member_N])
            found.append((np.searchsorted(outside, inside).mean(), (inside > np.quantile(outside, 0.99)).mean()))
    areas, shares = np.reshape(found, (3, len(rules), 2)).mean(axis=0).T
    return list(zip(areas / len(outside), shares, strict=True))


@pytest.mark.parametrize("form", [LiraForm.ONLINE, LiraForm.OFFLINE])
def test_shrinking_serves_best_where_records_deviations_differ(form: LiraForm) -> None:
    rules = [VarianceRule.SHRUNK, VarianceRule.PER_EXAMPLE, VarianceRule.FIXED_RESIDUAL]
    shrunk, own, fixed = powers(form, rules, freedom=6.0)
    assert shrunk[0] > own[0] + 0.003
    assert shrunk[0] > fixed[0] + 0.002
    assert shrunk[1] > 1.08 * max(own[1], fixed[1])


@pytest.mark.parametrize("form", [LiraForm.ONLINE, LiraForm.OFFLINE])
def test_shrinking_is_the_fixed_rule_where_deviations_are_equal(form: LiraForm) -> None:
    rules = [VarianceRule.SHRUNK, VarianceRule.PER_EXAMPLE, VarianceRule.FIXED_RESIDUAL]
    shrunk, own, fixed = powers(form, rules, freedom=1e6)
    assert shrunk == pytest.approx(fixed, abs=0.002)
    assert fixed[0] > own[0] + 0.006
    assert fixed[1] > 1.3 * own[1]


def test_the_official_rule_misses_that_in_models_vary_less() -> None:
    fixed, official = powers(
        LiraForm.ONLINE, [VarianceRule.FIXED_RESIDUAL, VarianceRule.FIXED_OFFICIAL], freedom=1e6, inside_scale=0.3
    )
    assert fixed[0] > official[0] + 0.01


@RULES
def test_models_that_are_neither_in_nor_out_do_not_matter(rule: VarianceRule) -> None:
    phi_NQ, phi_MNQ, in_MN, out_MN = uneven_world()
    scores = scores_of(LiraForm.ONLINE, rule, *world_of_confidences(phi_NQ, phi_MNQ, in_MN, out_MN))
    moved_MNQ = np.where((in_MN | out_MN)[:, :, None], phi_MNQ, 77.0)
    assert np.array_equal(
        scores, scores_of(LiraForm.ONLINE, rule, *world_of_confidences(phi_NQ, moved_MNQ, in_MN, out_MN))
    )


@RULES
@pytest.mark.parametrize("form", [LiraForm.OFFLINE, LiraForm.OFFLINE_TWO_SIDED])
def test_offline_attacks_look_at_no_in_model(form: LiraForm, rule: VarianceRule) -> None:
    phi_NQ, phi_MNQ, in_MN, out_MN = uneven_world()
    scores = scores_of(form, rule, *world_of_confidences(phi_NQ, phi_MNQ, in_MN, out_MN))
    moved_MNQ = np.where(in_MN[:, :, None], 77.0, phi_MNQ)
    assert np.array_equal(scores, scores_of(form, rule, *world_of_confidences(phi_NQ, moved_MNQ, in_MN, out_MN)))
    nowhere_MN = np.zeros_like(in_MN)
    assert np.array_equal(scores, scores_of(form, rule, *world_of_confidences(phi_NQ, phi_MNQ, nowhere_MN, out_MN)))


def test_too_few_models_for_a_variance_are_refused() -> None:
    out_MN = np.ones((3, 4), dtype=bool)
    out_MN[1:, 0] = False  # one OUT model of record 0, three of the others
    phi_NQ, phi_MNQ = rng().normal(size=(4, 1)), rng().normal(size=(3, 4, 1))
    view, target = world_of_confidences(phi_NQ, phi_MNQ, ~out_MN, out_MN)
    with pytest.raises(InputError, match=r"lira_offline_per_example .* needs two OUT of every record: give more"):
        scores_of(LiraForm.OFFLINE, VarianceRule.PER_EXAMPLE, view, target)
    assert np.isfinite(scores_of(LiraForm.OFFLINE, VarianceRule.FIXED_RESIDUAL, view, target)).all()
    view, target = world_of_confidences(phi_NQ, phi_MNQ[:1], ~out_MN[:1], out_MN[:1])
    for rule in (VarianceRule.AUTOMATIC, VarianceRule.SHRUNK, VarianceRule.FIXED_RESIDUAL):
        with pytest.raises(InputError, match="needs two OUT of some record: give more") as caught:
            scores_of(LiraForm.OFFLINE, rule, view, target)
        assert "\n" not in str(caught.value)
    # All OUT confidences together have a spread, even if each record has one.
    assert np.isfinite(scores_of(LiraForm.OFFLINE, VarianceRule.FIXED_OFFICIAL, view, target)).all()


def test_models_that_were_asked_other_queries_are_refused() -> None:
    phi_NQ, phi_MNQ, in_MN, out_MN = uneven_world()
    view, _ = world_of_confidences(phi_NQ, phi_MNQ, in_MN, out_MN)
    _, target = world_of_confidences(phi_NQ[:, :1], phi_MNQ, in_MN, out_MN)
    with pytest.raises(InputError, match="references answer 2 queries a record, the target 1"):
        scores_of(LiraForm.ONLINE, VarianceRule.AUTOMATIC, view, target)


@FORMS
@RULES
def test_posteriors_of_zero_and_one_and_models_that_agree_give_finite_scores(
    form: LiraForm, rule: VarianceRule
) -> None:
    in_MN = reference_membership(60, models=16, seed=0, target=0)
    phi_MNQ = np.where(in_MN, np.inf, rng().choice([-np.inf, 0.0, np.inf], size=in_MN.shape))[:, :, None]
    phi_NQ = np.tile([-np.inf, 0.0, np.inf], 20)[:, None]
    with np.errstate(invalid="ignore"):
        view, target = world_of_confidences(phi_NQ, phi_MNQ, in_MN)
    # -inf - 0 in the other class would be no answer: a posterior of 0 or 1 has one logit of -inf.
    for signals in (*view.records.references.answers, target.logits_NQC):  # type: ignore[union-attr]
        logits = np.asarray(signals)
        sure = logits[..., 0] == np.inf
        logits[sure] = [0, -np.inf]
    assert np.isfinite(scores_of(form, rule, view, target)).all()
