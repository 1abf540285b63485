"""On answers that know nothing of membership, every attack by references must be no better, and no worse, than chance.

A worse one is a leak as well: it tells members from others. Attacking a reference model by the others of its block
leaks by their number, IN models being fewer for its members, and this is where that would show.
"""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata

from raymia.attacks import (
    ATTACKS,
    Attack,
    AttackerView,
    Needs,
    ReferenceRecords,
    References,
    Scores,
    Signals,
    run_attack,
)
from raymia.records.plan import Role, quad_plan, reference_membership

MODELS = 16
RECORDS = 30_000
WORLDS = 8
STRANGERS = 600

BY_REFERENCES = [attack for attack in ATTACKS.values() if attack.needs & {Needs.IN_REFERENCES, Needs.OUT_REFERENCES}]
EVERY = pytest.mark.parametrize("attack", BY_REFERENCES, ids=lambda attack: attack.name)


def auc(scores_N: Scores, member_N: NDArray[np.bool_]) -> float:
    members, others = member_N.sum(), (~member_N).sum()
    return float((rankdata(scores_N)[member_N].sum() - members * (members + 1) / 2) / (members * others))


@cache
def noise(seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64], Signals]:
    """Answers [models, records, 1, 2] of 16 references and a target, membership of the references, labels, and Z."""
    rng = np.random.default_rng(seed)
    logits_MNQC = rng.normal(size=(MODELS + 1, RECORDS, 1, 2)).astype(np.float32)
    in_MN = reference_membership(RECORDS, models=MODELS, seed=seed, target=0)
    outside = rng.normal(size=(MODELS + 1, STRANGERS, 1, 2)).astype(np.float32)
    strangers = References.of(list(outside[1:]), np.zeros((MODELS, STRANGERS), dtype=bool))
    return (
        logits_MNQC,
        in_MN,
        rng.integers(0, 2, RECORDS),
        Signals(outside[0], rng.integers(0, 2, STRANGERS), strangers),
    )


def attacked(
    attack: Attack,
    references: References,
    logits_NQC: NDArray[np.float32],
    labels_N: NDArray[np.int64],
    outside: Signals,
) -> Scores:
    view = AttackerView(2, records=ReferenceRecords(labels_N, references), population=outside)
    return run_attack(attack, view, Signals(logits_NQC, labels_N, references), np.random.default_rng(0))


@EVERY
def test_the_plan_gives_chance_at_16_references(attack: Attack) -> None:
    """A standard error of .0012 (.0033 a world, 8 worlds): .005 is four of them."""
    values = []
    for seed in range(WORLDS):
        logits_MNQC, in_MN, labels_N, outside = noise(seed)
        plan = quad_plan(2 * RECORDS, part_size=RECORDS // 2, seed=seed, target=0)
        member_N = np.isin(plan.scored, plan[Role.TARGET_IN])
        references = References.of(list(logits_MNQC[1:]), in_MN)
        values.append(auc(attacked(attack, references, logits_MNQC[0], labels_N, outside), member_N))
    assert abs(np.mean(values) - 0.5) < 0.005


def left_out(attack: Attack, balanced: bool) -> float:
    """Mean AUC of attacks on one reference by the 15 others, their numbers left as they are or balanced."""
    values = []
    for seed in range(WORLDS):
        logits_MNQC, in_MN, labels_N, outside = noise(seed)
        references = References.of(list(logits_MNQC[1:]), in_MN)
        others = references.balanced_without(0, np.random.default_rng(seed)) if balanced else references.but(0)
        assert outside.references is not None
        strangers = Signals(outside.logits_NQC, outside.labels_N, outside.references.but(0))
        values.append(auc(attacked(attack, others, references.read(0), labels_N, strangers), in_MN[0]))
    return float(np.mean(values))


@pytest.mark.parametrize("name", ["lira_online", "lira_online_per_example", "lira_online_shrunk"])
def test_a_reference_attacked_by_the_others_gives_chance_only_if_their_numbers_are_balanced(name: str) -> None:
    assert abs(left_out(ATTACKS[name], balanced=True) - 0.5) < 0.005
    assert left_out(ATTACKS[name], balanced=False) < 0.49
