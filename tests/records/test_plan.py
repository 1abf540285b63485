"""Membership plans: who sees which record."""

import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raymia.config import PlanConfig
from raymia.errors import InputError
from raymia.records.plan import (
    REFERENCE_BLOCK,
    MembershipPlan,
    Role,
    apart_plan,
    half_plan,
    poisson_membership,
    quad_plan,
    reference_membership,
    shared_plan,
)
from raymia.records.plan_choice import plan_for

PARTS = (Role.TARGET_IN, Role.TARGET_OUT, Role.SHADOW_IN, Role.SHADOW_OUT)

Seeds = st.integers(0, 2**31)


def same(one: MembershipPlan, other: MembershipPlan) -> bool:
    return one.roles.keys() == other.roles.keys() and all(np.array_equal(one[role], other[role]) for role in one.roles)


@given(
    records=st.integers(5, 400),
    part_size=st.none() | st.integers(1, 60),
    seed=Seeds,
    target=st.integers(0, 9),
    reserve=st.booleans(),
    canaries=st.integers(0, 20),
)
def test_roles_are_equal_disjoint_sorted_parts(
    records: int, part_size: int | None, seed: int, target: int, reserve: bool, canaries: int
) -> None:
    parts = (*PARTS, Role.RESERVE) if reserve else PARTS
    size = part_size if part_size is not None else (records - canaries) // len(parts)
    assume(size >= 1 and size * len(parts) + canaries <= records)
    plan = quad_plan(records, part_size=part_size, seed=seed, target=target, reserve=reserve, canaries=canaries)
    assert set(plan.roles) == {*parts, Role.CANARY}
    assert {role: len(plan[role]) for role in plan.roles} == dict.fromkeys(parts, size) | {Role.CANARY: canaries}
    everyone = np.concatenate(list(plan.roles.values()))
    assert len(np.unique(everyone)) == len(everyone)
    assert everyone.min() >= 0
    assert everyone.max() < records
    for positions in plan.roles.values():
        assert positions.dtype == np.int64
        np.testing.assert_array_equal(positions, np.sort(positions))


@given(seed=Seeds, target=st.integers(0, 99), reserve=st.booleans(), canaries=st.integers(0, 20))
def test_a_plan_repeats_and_differs_by_target_and_seed(seed: int, target: int, reserve: bool, canaries: int) -> None:
    def plan(seed: int, target: int) -> MembershipPlan:
        return quad_plan(400, part_size=50, seed=seed, target=target, reserve=reserve, canaries=canaries)

    assert same(plan(seed, target), plan(seed, target))
    assert not same(plan(seed, target), plan(seed, target + 1))
    assert not same(plan(seed, target), plan(seed + 1, target))


def test_every_record_is_a_member_in_a_fair_share_of_the_plans() -> None:
    counts = np.zeros(40)
    for target in range(800):
        counts[quad_plan(40, part_size=10, seed=0, target=target)[Role.TARGET_IN]] += 1
    # Binomial(800, 1/4): mean 200, deviation 12.2; five of them on either side.
    assert counts.sum() == 8000
    assert 139 < counts.min() <= counts.max() < 261


def test_the_order_of_scored_and_shadow_records_tells_nothing_of_their_membership() -> None:
    plan = quad_plan(100, part_size=10, seed=1, target=0)
    np.testing.assert_array_equal(plan.scored, sorted([*plan[Role.TARGET_IN], *plan[Role.TARGET_OUT]]))
    np.testing.assert_array_equal(plan.shadow, sorted([*plan[Role.SHADOW_IN], *plan[Role.SHADOW_OUT]]))


def test_a_reserve_takes_the_papers_fifths() -> None:
    assert {len(part) for part in quad_plan(60_000, part_size=None, seed=0, target=0).roles.values()} == {15_000, 0}
    fifths = quad_plan(60_000, part_size=None, seed=0, target=0, reserve=True)
    assert {len(part) for part in fifths.roles.values()} == {12_000, 0}
    assert Role.RESERVE not in quad_plan(100, part_size=10, seed=0, target=0).roles


@given(
    records=st.integers(0, 100),
    part_size=st.none() | st.integers(1, 60),
    reserve=st.booleans(),
    canaries=st.integers(0, 30),
)
def test_too_few_records_are_refused_with_the_largest_size_that_fits(
    records: int, part_size: int | None, reserve: bool, canaries: int
) -> None:
    parts = 5 if reserve else 4
    largest = max((records - canaries) // parts, 0)
    assume((part_size or 1) > largest)
    with pytest.raises(InputError) as caught:
        quad_plan(records, part_size=part_size, seed=0, target=0, reserve=reserve, canaries=canaries)
    message = str(caught.value)
    assert message.startswith("plan.part_size: ")
    assert "\n" not in message
    found = re.search(r"set plan.part_size to (\d+) or less", message)
    if largest:
        assert found is not None
        assert int(found[1]) == largest
        quad_plan(records, part_size=largest, seed=0, target=0, reserve=reserve, canaries=canaries)
    else:
        assert found is None
        assert "bring more data" in message


@given(scored=st.integers(2, 60), blocks=st.integers(1, 3), seed=Seeds, target=st.integers(0, 9))
def test_references_are_balanced_over_records_and_models(scored: int, blocks: int, seed: int, target: int) -> None:
    member_MN = reference_membership(scored, models=blocks * REFERENCE_BLOCK, seed=seed, target=target)
    assert member_MN.shape == (blocks * REFERENCE_BLOCK, scored)
    assert member_MN.dtype == np.bool_
    for block_MN in np.split(member_MN, blocks):
        assert set(block_MN.sum(axis=0)) == {REFERENCE_BLOCK // 2}
    assert set(member_MN.sum(axis=1)) <= {scored // 2, scored - scored // 2}


@given(scored=st.integers(2, 60), blocks=st.integers(2, 4), seed=Seeds, target=st.integers(0, 9))
def test_more_references_leave_the_first_ones_as_they_were(scored: int, blocks: int, seed: int, target: int) -> None:
    grown = reference_membership(scored, models=blocks * REFERENCE_BLOCK, seed=seed, target=target)
    first = reference_membership(scored, models=REFERENCE_BLOCK, seed=seed, target=target)
    assert grown[:REFERENCE_BLOCK].tobytes() == first.tobytes()
    assert scored < 20 or not np.array_equal(grown[:REFERENCE_BLOCK], grown[REFERENCE_BLOCK : 2 * REFERENCE_BLOCK])


def test_references_are_drawn_anew_for_each_target_and_seed() -> None:
    drawn = {
        reference_membership(100, models=16, seed=seed, target=target).tobytes()
        for seed in range(5)
        for target in range(5)
    }
    assert len(drawn) == 25


def test_references_say_nothing_about_the_targets_members() -> None:
    """No record's IN-count tells, and no reference model favors the target's members beyond chance."""
    scored, members = 400, 200
    member_MN = reference_membership(scored, models=64, seed=3, target=1)
    assert set(member_MN.sum(axis=0)) == {32}
    shared_M = member_MN[:, :members].sum(axis=1)
    # Hypergeometric: mean 100, deviation 5.006; complementary pairs add to the members' number.
    assert np.abs(shared_M - 100).max() < 5 * 5.006
    assert np.std(shared_M) == pytest.approx(5.0, abs=2.0)
    np.testing.assert_array_equal(shared_M[0::2] + shared_M[1::2], members)


def test_halves_of_different_pairs_are_independent() -> None:
    member_MN = reference_membership(2000, models=32, seed=0, target=0)
    correlation = np.corrcoef(member_MN[::2].astype(float))
    # Sixteen halves of 2,000 records: correlations of deviation 0.022.
    assert np.abs(correlation - np.eye(16)).max() < 0.1


@pytest.mark.parametrize("models", [1, 8, 17])
def test_references_come_in_whole_blocks(models: int) -> None:
    with pytest.raises(ValueError, match="blocks of 16"):
        reference_membership(10, models=models, seed=0, target=0)


def test_no_references_are_an_empty_table() -> None:
    assert reference_membership(10, models=0, seed=0, target=0).shape == (0, 10)


def test_poisson_canaries_are_independent_fair_coins() -> None:
    coins = np.stack([poisson_membership(400, seed=0, target=target) for target in range(500)])
    assert coins.dtype == np.bool_
    # The number of members varies as a binomial's: mean 200, deviation 10. A split of fixed size would not vary.
    counts = coins.sum(axis=1)
    assert counts.mean() == pytest.approx(200, abs=5 * 10 / np.sqrt(500))
    assert counts.std() == pytest.approx(10, abs=1.6)
    assert np.abs(coins.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(500)
    np.testing.assert_array_equal(coins[3], poisson_membership(400, seed=0, target=3))
    assert not np.array_equal(coins[3], poisson_membership(400, seed=1, target=3))


@given(records=st.integers(30, 400), part_size=st.integers(1, 12), targets=st.integers(1, 4), seed=Seeds)
def test_a_plan_apart_uses_no_record_of_the_other_study(records: int, part_size: int, targets: int, seed: int) -> None:
    assume(records >= 4 * part_size)
    used = [quad_plan(records, part_size=part_size, seed=7, target=one) for one in range(targets)]
    taken = np.unique(np.concatenate([part for plan in used for part in plan.roles.values()]))
    assume(records - len(taken) >= 4 * part_size)
    plan = apart_plan(records, part_size=part_size, seed=seed, target=0, searched=(7, targets))
    everyone = np.concatenate(list(plan.roles.values()))
    assert not np.isin(everyone, taken).any()
    assert len(np.unique(everyone)) == 4 * part_size
    assert {role: len(plan[role]) for role in PARTS} == dict.fromkeys(PARTS, part_size)


def test_a_plan_apart_is_refused_where_too_few_records_are_left() -> None:
    with pytest.raises(InputError, match=r"set plan\.part_size to"):
        apart_plan(100, part_size=20, seed=0, target=0, searched=(7, 1))


@given(seed=Seeds, target=st.integers(0, 9), part_size=st.integers(2, 20))
def test_targets_of_a_shared_plan_have_halves_of_the_same_records(seed: int, target: int, part_size: int) -> None:
    first, other = (shared_plan(100, part_size=part_size, seed=seed, target=one) for one in (0, target))
    np.testing.assert_array_equal(first.scored, other.scored)
    np.testing.assert_array_equal(first.shadow, other.shadow)
    assert {role: len(other[role]) for role in PARTS} == dict.fromkeys(PARTS, part_size)
    assert not np.isin(other.scored, other.shadow).any()


def test_targets_of_a_shared_plan_differ() -> None:
    plans = [shared_plan(100, part_size=20, seed=0, target=target) for target in range(6)]
    assert len({tuple(plan[Role.TARGET_IN]) for plan in plans}) == 6
    share = np.mean([np.isin(plans[0][Role.TARGET_IN], plan[Role.TARGET_IN]).mean() for plan in plans[1:]])
    assert 0.3 < share < 0.7


def test_every_record_is_in_half_of_the_models_of_a_replication() -> None:
    plans = [half_plan(100, part_size=None, models=32, seed=0, target=model) for model in range(32)]
    trained = np.stack([np.isin(np.arange(100), plan[Role.TARGET_IN]) for plan in plans])
    assert (trained.sum(axis=0) == 16).all()
    assert {len(plan[Role.TARGET_IN]) for plan in plans} == {50}
    assert not len(plans[0].shadow)
    np.testing.assert_array_equal(plans[3].scored, np.arange(100))


def test_a_replication_needs_its_records_and_its_models() -> None:
    with pytest.raises(InputError, match=r"halves of 60 need 120 records"):
        half_plan(100, part_size=60, models=16, seed=0, target=0)
    with pytest.raises(InputError, match=r"plan\.targets: 17 of 16 models"):
        half_plan(100, part_size=20, models=16, seed=0, target=16)


@pytest.mark.parametrize(
    "changes", [{"kind": "half", "canaries": 5}, {"kind": "shared", "apart_from": {"seed": 1, "targets": 2}}]
)
def test_plans_that_contradict_themselves_are_refused(changes: dict[str, object]) -> None:
    plan = PlanConfig.model_validate({"part_size": 10, "references": 16, **changes})
    with pytest.raises(InputError, match=r"set it to quad|plan\.kind quad"):
        plan_for(200, plan, 0, 0)
