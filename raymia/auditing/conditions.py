"""Conditions under which a release must not go out: `[attack.]metric op number`, read by hand."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from raymia.auditing.numbers import NAMES, Number
from raymia.errors import InputError
from raymia.metrics.summary import NOT_RESOLVABLE
from raymia.yaml_files import suggestion

_FORM = re.compile(r"\s*(?P<what>[^\s<>=]+)\s*(?P<op>>=|<=|>|<)\s*(?P<bound>\S+)\s*")
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}

_NAMED = 3


@dataclass(frozen=True)
class Condition:
    """attack: None for any of those that were run. metric: a name of `audit.json`."""

    text: str
    attack: str | None
    metric: str
    op: str
    bound: float


@dataclass(frozen=True)
class Judgment:
    """met: each attack that meets the condition, with its number. unresolved: attacks whose records are too few for
    the number. without: attacks that have no such number.
    """

    condition: Condition
    met: Mapping[str, float]
    unresolved: Sequence[str]
    without: Sequence[str]
    judged: int

    @property
    def fails(self) -> bool:
        """Met, or not to be ruled out: what cannot be judged does not pass."""
        return bool(self.met or self.unresolved or not self.judged)

    @property
    def line(self) -> str:
        """What came of it, in a line."""
        of = f"--fail-if '{self.condition.text}'"
        if self.met:
            most = max(self.met.items(), key=lambda one: abs(one[1] - self.condition.bound))
            others = f" and {len(self.met) - 1} more" if len(self.met) > 1 else ""
            return f"{of}: met by {most[0]}, {most[1]:.4g}{others}"
        if self.unresolved:
            return (
                f"{of}: cannot be judged for {_some(self.unresolved)}: {self.condition.metric} is not resolvable "
                "on so few records; add non-members, or set a condition on another metric"
            )
        if not self.judged:
            return f"{of}: cannot be judged: {_some(self.without)} has no {self.condition.metric}"
        return f"{of}: not met" + (f" (not judged, without one: {_some(self.without)})" if self.without else "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def parse_condition(text: str, attacks: Sequence[str]) -> Condition:
    """A condition on one of these attacks, or any. Raises InputError for another form, attack or metric."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise InputError(f"--fail-if {text!r}: write it as [attack.]metric op number, e.g. 'auc_high > 0.6'")
    try:
        bound = float(found["bound"])
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise InputError(f"--fail-if {text!r}: {found['bound']} is no number; write one, e.g. 0.6")
    what = found["what"]
    # Metrics have dots in their names (tpr_at_fpr_0.001), and so may attacks of other packages.
    metric = next((name for name in NAMES if what == name or what.endswith(f".{name}")), None)
    prefixes = [name for name in attacks if what.startswith(f"{name}.")]
    if metric is None:
        unknown = what.removeprefix(f"{max(prefixes, key=len)}." if prefixes else "")
        raise InputError(f"--fail-if {text!r}: unknown metric {unknown!r}: {suggestion(unknown, [*NAMES])}")
    attack = what.removesuffix(metric).removesuffix(".") or None
    if attack is not None and attack not in attacks:
        raise InputError(f"--fail-if {text!r}: no attack {attack!r} is run: {suggestion(attack, [*attacks])}")
    return Condition(text, attack, metric, found["op"], bound)


def judge(condition: Condition, numbers: Mapping[str, Mapping[str, Number]]) -> Judgment:
    """Hold the condition against the attacks' numbers (`numbers_of`, by attack)."""
    met, unresolved, without, judged = {}, [], [], 0
    for attack in numbers if condition.attack is None else (condition.attack,):
        value = numbers[attack][condition.metric]
        if value is None:
            without.append(attack)
        elif value == NOT_RESOLVABLE:
            unresolved.append(attack)
        else:
            judged += 1
            if _OPERATORS[condition.op](float(value), condition.bound):
                met[attack] = float(value)
    return Judgment(condition, met, unresolved, without, judged)
