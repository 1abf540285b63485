"""Membership that can be read off the number of references is refused, and taken out on request."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm

from raymia.attacks import ATTACKS, ReferenceRecords, References, run_attack
from raymia.auditing.counts import count_leak, equalized
from raymia.auditing.evidence import evidence_of
from raymia.errors import InputError
from raymia.metrics.roc import auc
from raymia.records.plan import reference_membership
from tests.auditing.given import Arrays, run, verdict, write


def leave_one_out(seed: int, records: int, models: int = 16) -> Arrays:
    """Pure noise by the papers' protocol: of balanced models one is the target, the others are its references."""
    rng = np.random.default_rng(seed)
    member_MN = reference_membership(records, models=models, seed=seed, target=0)
    logits = rng.normal(size=(models, records, 3)).astype(np.float32)
    return {
        "target_logits": logits[0],
        "labels": rng.integers(0, 3, records),
        "member": member_MN[0],
        "reference_logits": logits[1:],
        "reference_member": member_MN[1:],
    }


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6), st.integers(10, 60))
def test_the_count_is_tested_as_scipy_tests_it(seed: int, models: int, records: int) -> None:
    rng = np.random.default_rng(seed)
    in_MN, member_N = rng.random((models, records)) < 0.5, np.arange(records) < records // 2
    count_N = in_MN.sum(axis=0)
    leak = count_leak(in_MN, member_N)
    if len(np.unique(count_N)) == 1:
        assert (leak.auc, leak.errors) == (0.5, 0.0)
        return
    found = mannwhitneyu(count_N[member_N], count_N[~member_N], method="asymptotic", use_continuity=False)
    assert leak.auc == pytest.approx(found.statistic / (member_N.sum() * (~member_N).sum()))
    assert 2 * norm.sf(abs(leak.errors)) == pytest.approx(found.pvalue, abs=1e-9)


def test_leave_one_out_is_refused_with_the_remedy() -> None:
    code, output, errors = run("--signals", write(leave_one_out(0, 400)), "--attacks", "lira_online")
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert "reference_member: the number of a record's IN references alone tells members with AUC 0.000" in errors
    assert "add --equalize-references" in errors


def test_references_drawn_independently_are_taken() -> None:
    arrays = leave_one_out(0, 400)
    arrays["reference_member"] = reference_membership(400, models=16, seed=1, target=0)[1:]
    evidence_of(arrays, {}, probabilities=False, equalize=False, seed=0)


def test_an_uneven_plan_is_told() -> None:
    arrays = leave_one_out(0, 400)
    arrays["reference_member"] = np.random.default_rng(0).random((15, 400)) < 0.3
    evidence = evidence_of(arrays, {}, probabilities=False, equalize=False, seed=0)
    counts = arrays["reference_member"].sum(axis=0)
    assert evidence.notes == (f"the plan is uneven: a record has {counts.min()} to {counts.max()} IN references",)


def test_chance_gives_nothing_away() -> None:
    rng = np.random.default_rng(0)
    member_N = np.arange(400) % 2 == 0
    assert not any(count_leak(rng.random((15, 400)) < 0.5, member_N).gives_away for _ in range(500))


def test_one_reference_on_the_other_half_is_refused() -> None:
    arrays = leave_one_out(0, 400)
    arrays["reference_logits"] = arrays["reference_logits"][:2]
    arrays["reference_member"] = np.stack([~arrays["member"], np.zeros(400, dtype=np.bool_)])
    with pytest.raises(InputError, match=r"alone tells members with AUC 0\.000"):
        evidence_of(arrays, {}, probabilities=False, equalize=False, seed=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 12), st.integers(1, 40))
def test_equalizing_keeps_as_many_as_all_records_have(seed: int, models: int, records: int) -> None:
    rng = np.random.default_rng(seed)
    in_MN = rng.random((models, records)) < 0.5
    references = References.of([np.zeros((records, 1, 2), np.float32)] * models, in_MN)
    found = equalized(references, rng)
    assert (found.in_MN.sum(axis=0) == in_MN.sum(axis=0).min()).all()
    assert (found.out_MN.sum(axis=0) == (~in_MN).sum(axis=0).min()).all()
    assert not (found.in_MN & ~in_MN).any()
    assert not (found.out_MN & in_MN).any()


def test_equalizing_takes_the_bias_out_of_leave_one_out() -> None:
    biased, equal = [], []
    attack, rng = ATTACKS["lira_online_per_example"], np.random.default_rng(0)
    for seed in range(6):
        arrays = leave_one_out(seed, 4000)
        evidence = evidence_of(arrays, {}, probabilities=False, equalize=True, seed=seed)
        assert evidence.notes == ("of every record 7 IN and 7 OUT references are used, the others dropped",)
        equal.append(auc(run_attack(attack, evidence.view, evidence.target, rng), arrays["member"]))
        leaking = References.of([one[:, None] for one in arrays["reference_logits"]], arrays["reference_member"])
        target = replace(evidence.target, references=leaking)
        view = replace(evidence.view, records=ReferenceRecords(target.labels_N, leaking))
        biased.append(auc(run_attack(attack, view, target, rng), arrays["member"]))
    assert abs(np.mean(equal) - 0.5) < 0.015  # 4 standard errors: .0091 an audit, 6 audits
    assert np.mean(biased) < 0.49  # what is refused otherwise; more so with fewer models


def test_the_command_equalizes_and_says_so() -> None:
    path = write(leave_one_out(0, 400))
    code, output, _ = run("--signals", path, "--equalize-references", "--attacks", "lira_online")
    assert code == 0
    assert "Note: of every record 7 IN and 7 OUT references are used, the others dropped." in output
    first = verdict()
    assert run("--signals", path, "--equalize-references", "--attacks", "lira_online")[0] == 0
    assert verdict() == first
