"""Membership plans: which records every model of a study sees, drawn from the study's seed alone.

`quad` is paper 1's protocol: one permutation cut into equal parts for the target's members and non-members and the
shadow's, so that no record serves twice. Reference models (LiRA, RMIA) train on random halves of the scored records.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from raymia.errors import InputError
from raymia.seeds import generator

Positions = NDArray[np.int64]

REFERENCE_BLOCK = 16


class Role(StrEnum):
    """What a record is for in one plan."""

    TARGET_IN = "target_in"
    TARGET_OUT = "target_out"
    SHADOW_IN = "shadow_in"
    SHADOW_OUT = "shadow_out"
    RESERVE = "reserve"
    CANARY = "canary"


class Exposure(IntEnum):
    """How a model met a record."""

    OUT = 0
    INDIRECT = 1
    DIRECT = 2


@dataclass(frozen=True)
class MembershipPlan:
    """The roles of the records around one target model.

    roles: sorted positions (int64) into the study's records, disjoint between roles.
    """

    roles: Mapping[Role, Positions]

    def __getitem__(self, role: Role) -> Positions:
        return self.roles[role]

    @cached_property
    def scored(self) -> Positions:
        """The records whose membership is attacked, sorted, so that their order tells nothing of it."""
        return np.sort(np.concatenate([self[Role.TARGET_IN], self[Role.TARGET_OUT]]))

    @cached_property
    def shadow(self) -> Positions:
        """The attacker's own records, sorted (they also serve as its population)."""
        return np.sort(np.concatenate([self[Role.SHADOW_IN], self[Role.SHADOW_OUT]]))


def quad_plan(
    records: int, *, part_size: int | None, seed: int, target: int, reserve: bool = False, canaries: int = 0
) -> MembershipPlan:
    """Paper 1's split for target model number `target`: equal, disjoint parts of one permutation.

    part_size: records in each part; None takes as many as there are. reserve: a fifth equal part for the defender
    (a defense that needs data the target does not train on). canaries: further records set aside to be audited apart,
    the same for every target.
    Raises InputError when the records do not suffice.
    """
    order = [Role.TARGET_IN, Role.TARGET_OUT, Role.SHADOW_IN, Role.SHADOW_OUT]
    if reserve:
        order.append(Role.RESERVE)
    largest = max((records - canaries) // len(order), 0)
    size = max(largest, 1) if part_size is None else part_size
    needed = size * len(order) + canaries
    if needed > records:
        remedy = f"set plan.part_size to {largest} or less, or bring more data" if largest else "bring more data"
        raise InputError(
            f"plan.part_size: {len(order)} parts of {size} records and {canaries} canaries need {needed} records, "
            f"the data set has {records}: {remedy}"
        )
    set_aside = np.sort(generator(seed, "canaries").permutation(records)[:canaries])
    others = np.setdiff1d(np.arange(records), set_aside)
    permutation = others[generator(seed, "plan", target).permutation(len(others))]
    roles = {role: np.sort(permutation[i * size : (i + 1) * size]) for i, role in enumerate(order)}
    return MembershipPlan({**roles, Role.CANARY: set_aside})


def shared_plan(
    records: int, *, part_size: int | None, seed: int, target: int, reserve: bool = False, canaries: int = 0
) -> MembershipPlan:
    """One split for all targets: of the scored records each target has a random half, of the shadow's its shadow.

    Arguments and errors as of `quad_plan`. What is said over such targets holds for these records.
    """
    split = quad_plan(records, part_size=part_size, seed=seed, target=0, reserve=reserve, canaries=canaries)
    rng = generator(seed, "shared plan", target)
    halves = {
        Role.TARGET_IN: (split.scored, Role.TARGET_OUT),
        Role.SHADOW_IN: (split.shadow, Role.SHADOW_OUT),
    }
    roles = dict(split.roles)
    for role, (positions, other) in halves.items():
        chosen = rng.permutation(len(positions)) < len(positions) // 2
        roles |= {role: positions[chosen], other: positions[~chosen]}
    return MembershipPlan(roles)


def half_plan(records: int, *, part_size: int | None, models: int, seed: int, target: int) -> MembershipPlan:
    """The replication of LiRA's and DeMem's protocol: model number `target` of `models`, each on half of the records.

    part_size: records a model trains on. Every record is in exactly half of the models. There are no shadow records.
    Raises InputError for a target beyond the models, or too few records.
    """
    size = records // 2 if part_size is None else part_size
    if 2 * size > records or not size:
        raise InputError(f"plan.part_size: halves of {size} need {2 * size} records, the data set has {records}")
    if target >= models:
        raise InputError(f"plan.targets: {target + 1} of {models} models; each target is one of plan.references")
    used = np.sort(generator(seed, "half plan").permutation(records)[: 2 * size])
    own = reference_membership(len(used), models=models, seed=seed, target=0)[target]
    nobody = np.zeros(0, dtype=np.int64)
    empty = dict.fromkeys((Role.SHADOW_IN, Role.SHADOW_OUT, Role.CANARY), nobody)
    return MembershipPlan({Role.TARGET_IN: used[own], Role.TARGET_OUT: used[~own], **empty})


def apart_plan(
    records: int,
    *,
    part_size: int,
    seed: int,
    target: int,
    searched: tuple[int, int],
    reserve: bool = False,
    canaries: int = 0,
) -> MembershipPlan:
    """`quad_plan` on the records that no plan of another study uses.

    searched: that study's seed and number of targets, all else being the same. Raises InputError when what is left does
    not suffice.
    """
    free = np.ones(records, dtype=bool)
    for other in range(searched[1]):
        taken = quad_plan(
            records, part_size=part_size, seed=searched[0], target=other, reserve=reserve, canaries=canaries
        )
        for positions in taken.roles.values():
            free[positions] = False
    left = np.flatnonzero(free)
    plan = quad_plan(len(left), part_size=part_size, seed=seed, target=target, reserve=reserve, canaries=canaries)
    return MembershipPlan({role: left[positions] for role, positions in plan.roles.items()})


def reference_membership(scored: int, *, models: int, seed: int, target: int) -> NDArray[np.bool_]:
    """Which of the scored records each reference model trains on: bool[models, scored].

    Drawn in blocks of 16 models, independently of the target; in each block every record is IN exactly 8 models and
    every model has half of the records (to within one). More models only append blocks. `models` is a multiple of 16.

    Raises ValueError for another number of models.
    """
    if models % REFERENCE_BLOCK:
        raise ValueError(f"reference models come in blocks of {REFERENCE_BLOCK}")
    blocks = [
        _balanced_block(scored, generator(seed, "references", target, block))
        for block in range(models // REFERENCE_BLOCK)
    ]
    return np.concatenate(blocks) if blocks else np.zeros((0, scored), dtype=bool)


def _balanced_block(scored: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    # Eight complementary pairs of halves: each record is IN one model of every pair.
    pairs = []
    for _ in range(REFERENCE_BLOCK // 2):
        half = np.zeros(scored, dtype=bool)
        half[rng.permutation(scored)[: scored // 2]] = True
        pairs += [half, ~half]
    return np.stack(pairs)


def poisson_membership(canaries: int, *, seed: int, target: int) -> NDArray[np.bool_]:
    """Independent fair coins, bool[canaries]: the one-run audit covers no fixed-size split (Steinke et al. 2023)."""
    return generator(seed, "canaries", target).random(canaries) < 0.5
