"""The membership plan that a study's configuration asks for."""

from functools import lru_cache

from raymia.config import PlanConfig
from raymia.errors import InputError
from raymia.records.plan import MembershipPlan, apart_plan, half_plan, quad_plan, shared_plan


def decided(plan: PlanConfig, reserve: bool) -> PlanConfig:
    """The plan with nothing left open. reserve: whether some defense wants a part of its own.

    Raises InputError where the plan has none for it.
    """
    if reserve and plan.reserve is False:
        raise InputError("plan.reserve is false, and a defense of the space wants records of its own; leave it out")
    return plan.model_copy(update={"reserve": reserve if plan.reserve is None else plan.reserve})


@lru_cache(maxsize=1024)
def plan_for(records: int, plan: PlanConfig, seed: int, target: int) -> MembershipPlan:
    """The plan around target model number `target`.

    records: how many there are. Raises InputError that names the setting for what the plan cannot be.
    """
    size, canaries, apart, reserve = plan.part_size, plan.canaries, plan.apart_from, bool(plan.reserve)
    if plan.kind == "half":
        if reserve or canaries or apart:
            raise InputError("plan.kind: half has no reserve, no canaries and no other study's records; set it to quad")
        return half_plan(records, part_size=size, models=plan.references, seed=seed, target=target)
    if apart is None:
        draw = shared_plan if plan.kind == "shared" else quad_plan
        return draw(records, part_size=size, seed=seed, target=target, reserve=reserve, canaries=canaries)
    if plan.kind == "shared" or size is None:
        raise InputError("plan.apart_from: needs plan.kind quad and a plan.part_size; set both, or leave it out")
    return apart_plan(
        records,
        part_size=size,
        seed=seed,
        target=target,
        searched=(apart.seed, apart.targets),
        reserve=reserve,
        canaries=canaries,
    )
