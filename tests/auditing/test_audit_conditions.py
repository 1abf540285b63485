"""Conditions of a release: read by hand, never evaluated, and never passed because nobody could tell."""

import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymia.auditing.conditions import judge, parse_condition
from raymia.auditing.numbers import NAMES, Number, numbers_of
from raymia.errors import InputError
from raymia.metrics.membership import measure_attack
from raymia.metrics.summary import NOT_RESOLVABLE
from tests.auditing.given import of_confidences, run, target_only, verdict, whole, write

OPERATORS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
ATTACKS = ("loss", "lira_online", "lira_online_shrunk", "their.attack", "their")


@given(
    st.sampled_from([None, *ATTACKS]),
    st.sampled_from(NAMES),
    st.sampled_from([*OPERATORS]),
    st.floats(-1e3, 1e3),
    st.sampled_from(["", " ", "  "]),
    st.floats(-1e3, 1e3),
)
def test_a_condition_means_what_it_says(
    attack: str | None, metric: str, op: str, bound: float, space: str, value: float
) -> None:
    text = f"{space}{'' if attack is None else attack + '.'}{metric}{space}{op}{space}{bound!r}{space}"
    condition = parse_condition(text, ATTACKS)
    assert (condition.attack, condition.metric, condition.bound) == (attack, metric, bound)
    numbers: dict[str, dict[str, Number]] = {
        name: {metric: math.inf if op[0] == "<" else -math.inf} for name in ATTACKS
    }
    numbers["their"] |= {metric: value}
    judgment = judge(condition, numbers)
    met = attack in (None, "their") and OPERATORS[op](value, bound)
    assert judgment.fails == met
    assert judgment.met == ({"their": value} if met else {})


BAD = {
    "aucc > 0.6": "unknown metric 'aucc': did you mean 'auc'?",
    "loss.auc_hihg > 0.6": "unknown metric 'auc_hihg': did you mean 'auc_high'?",
    "los.auc > 0.6": "no attack 'los' is run: did you mean 'loss'?",
    "auc = 0.6": "write it as [attack.]metric op number, e.g. 'auc_high > 0.6'",
    "auc == 0.6": "write it as [attack.]metric op number",
    "auc > 0.6 > 0.5": "write it as [attack.]metric op number",
    "auc": "write it as [attack.]metric op number",
    "auc > much": "much is no number; write one, e.g. 0.6",
    "auc > nan": "nan is no number",
    "auc > inf": "inf is no number",
    "auc > __import__('os')": "is no number",
    "": "write it as [attack.]metric op number",
}


@pytest.mark.parametrize("text", BAD)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_condition(text, ATTACKS)
    assert str(caught.value).startswith("--fail-if ")
    assert BAD[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_metric_of_an_attack_has_a_name_and_the_other_way_round() -> None:
    rng = np.random.default_rng(0)
    member_N = np.arange(40) < 20
    metrics = measure_attack(rng.normal(size=40), member_N, rng, member_N, draws=10)
    assert tuple(numbers_of(metrics)) == NAMES


def test_what_cannot_be_judged_does_not_pass() -> None:
    condition = parse_condition("tpr_at_fpr_0.001_low > 0.5", ["loss", "entropy"])
    metric = condition.metric
    unresolved = judge(condition, {"loss": {metric: NOT_RESOLVABLE}, "entropy": {metric: NOT_RESOLVABLE}})
    assert unresolved.fails
    assert "cannot be judged for loss, entropy: tpr_at_fpr_0.001_low is not resolvable on so few" in unresolved.line
    absent = judge(condition, {"loss": {metric: None}, "entropy": {metric: None}})
    assert absent.fails
    assert "cannot be judged: loss, entropy has no tpr_at_fpr_0.001_low" in absent.line
    some = judge(condition, {"loss": {metric: 0.2}, "entropy": {metric: None}})
    assert not some.fails
    assert some.line.endswith("not met (not judged, without one: entropy)")


SIGNALS = of_confidences([3.0, 1.0] * 40, [2.0, 0.0] * 40)  # AUC of the loss 3/4


@pytest.mark.parametrize(
    ("condition", "code", "said"),
    [
        ("auc > 0.7", 3, "--fail-if 'auc > 0.7': met by loss, 0.75"),
        ("loss.auc >= 0.75", 3, "met by loss, 0.75"),
        ("loss.auc > 0.75", 0, "not met"),
        ("auc_low > 0.7", 0, "not met"),
        ("auc_high < 0.75", 0, "not met"),
        ("tpr_at_fpr_0.1 > 0.99", 0, None),
        ("tpr_at_fpr_0.001 > 0.99", 3, "cannot be judged for loss: tpr_at_fpr_0.001 is not resolvable"),
        ("balanced_accuracy_shadow > 0.99", 3, "cannot be judged: loss has no balanced_accuracy_shadow"),
    ],
)
def test_a_release_is_stopped_by_exit_code_3_after_all_is_written(condition: str, code: int, said: str | None) -> None:
    signals = SIGNALS if said is not None else of_confidences([3.0, 1.0] * 60, [2.0, 0.0] * 60)
    found, output, errors = run("--signals", write(signals), "--attacks", "loss", "--fail-if", condition)
    assert found == code
    assert (said or "not met") in (errors if code else output)
    assert errors.count("\n") == (code == 3)
    (outcome,) = verdict()["conditions"]
    assert (outcome["condition"], outcome["fails"]) == (condition, code == 3)


def test_several_conditions_and_the_largest_of_many_attacks() -> None:
    code, _, errors = run(
        *("--signals", write(target_only(whole())), "--attacks", "loss,entropy,label_only_gap"),
        *("--fail-if", "auc > 0.999", "--fail-if", "auc > 0.5"),
    )
    assert code == 3
    assert errors.count("\n") == 1
    found = verdict()
    assert [one["fails"] for one in found["conditions"]] == [False, True]
    strongest = max(found["attacks"], key=lambda name: found["attacks"][name]["auc"])
    assert f"met by {strongest}, {found['attacks'][strongest]['auc']:.4g} and 2 more" in errors


def never(*arguments: object) -> None:
    raise AssertionError("attacks were run")


@pytest.mark.parametrize("condition", ["lira_online.auc > 0.6", "aucc > 0.6"])
def test_what_cannot_be_judged_is_refused_before_any_attack_runs(
    condition: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymia.auditing.session.run_attacks", never)
    assert run("--signals", write(SIGNALS), "--fail-if", condition)[0] == 2


def test_a_condition_on_an_attack_that_is_not_run_says_why_and_writes_nothing() -> None:
    code, output, errors = run("--signals", write(SIGNALS), "--fail-if", "lira_online.auc > 0.6")
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert "lira_online is not run: needs reference models, at least 4 IN for every record: give ref" in errors
