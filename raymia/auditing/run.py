"""Running the attacks of an audit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raymia.attacks import (
    Attack,
    Needs,
    Scores,
    attack_named,
    attack_names,
    guess_members,
    missing,
    run_attack,
    shadow_threshold,
)
from raymia.auditing.evidence import Evidence
from raymia.errors import InputError, RaymiaError, RunError
from raymia.metrics.membership import AttackMetrics, measure_attack
from raymia.metrics.populations import named
from raymia.models.user_code import one_line
from raymia.seeds import generator

_WITHOUT_POPULATION = "Z = all scored records, whatever their membership: no population was handed in"


@dataclass(frozen=True)
class AttackResult:
    """An attack that was run. scores_N: float64[N], larger = more likely a member. notes: what a reader must know."""

    attack: Attack
    scores_N: Scores
    metrics: AttackMetrics
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.attack.name


@dataclass(frozen=True)
class Choice:
    """attacks: to run. left_out: why each other one is not run, by name. by_name: whether they were asked for."""

    attacks: tuple[Attack, ...]
    left_out: Mapping[str, str]
    by_name: bool


def requested_attacks(names: str | None) -> tuple[str, ...] | None:
    """The names in `a,b`; None for all there are. Raises InputError for an unknown or a repeated one."""
    if names is None:
        return None
    found = tuple(name.strip() for name in names.split(","))
    for name in found:
        attack_named(name)
        if found.count(name) > 1:
            raise InputError(f"--attacks: {name} is given twice; give each once")
    return found


def needed(requested: Sequence[str] | None) -> frozenset[Needs]:
    """All that these attacks ask for."""
    return frozenset(need for attack in _loaded(requested)[0] for need in attack.needs)


def choose_attacks(requested: Sequence[str] | None, evidence: Evidence) -> Choice:
    """The attacks that the evidence suffices for. Raises InputError where a requested one is not, or none is left."""
    attacks, left_out = _loaded(requested)
    chosen = []
    for attack in attacks:
        named(attack.name)
        if reason := _lacking(attack, evidence):
            left_out[attack.name] = reason
        else:
            chosen.append(attack)
    if requested is not None and left_out:
        raise InputError("; ".join(f"--attacks: {name} {reason}" for name, reason in left_out.items()))
    if not chosen:
        raise InputError("no attack can be run: hand in more")
    return Choice(tuple(chosen), left_out, requested is not None)


def run_attacks(
    choice: Choice, evidence: Evidence, seed: int, tell: Callable[[str], None]
) -> tuple[list[AttackResult], dict[str, str]]:
    """Run them one after another; every random stream is named by the attack. tell: hears each name before it starts.

    Returns the results, and why each attack without one has none: an attack may refuse the evidence. Raises InputError
    where that attack was asked for by name, RunError where an attack fails.
    """
    results, left_out = [], dict(choice.left_out)
    for attack in choice.attacks:
        tell(attack.name)
        try:
            results.append(_run(attack, evidence, seed))
        except InputError as error:
            if choice.by_name:
                raise
            left_out[attack.name] = str(error)
        except RaymiaError:
            raise
        except Exception as error:  # an attack may be anybody's
            raise RunError(f"attack {attack.name} failed: {one_line(error)}; name others with --attacks") from error
    if not results:
        raise InputError(f"no attack could be run: {'; '.join(dict.fromkeys(left_out.values()))}")
    return results, left_out


def _loaded(requested: Sequence[str] | None) -> tuple[list[Attack], dict[str, str]]:
    """The attacks, and why those of other packages cannot be loaded, which only matters where they are asked for."""
    attacks, broken = [], {}
    for name in attack_names() if requested is None else requested:
        try:
            attacks.append(attack_named(name))
        except InputError as error:
            if requested is not None:
                raise
            broken[name] = str(error)
    return attacks, broken


def _lacking(attack: Attack, evidence: Evidence) -> str | None:
    """What the attack needs and is not given, with the remedy; None where it can be run."""
    lacking = missing(attack, evidence.view, evidence.target)
    references = evidence.target.references
    if lacking == [Needs.IN_REFERENCES] and references is not None:
        inside, _ = references.least()
        return f"needs {lacking[0]}; here a record has {inside}: only offline attacks can be run"
    if not lacking:
        return None
    remedies = dict.fromkeys(evidence.remedies[need] for need in lacking)
    return f"needs {' and '.join(lacking)}: {'; '.join(remedies)}"


def _run(attack: Attack, evidence: Evidence, seed: int) -> AttackResult:
    view = evidence.view

    def stream(use: str) -> np.random.Generator:
        return generator(seed, "audit", attack.name, use)

    scores_N = run_attack(attack, view, evidence.target, stream("fit"))
    threshold = shadow_threshold(attack, view, stream("threshold"))
    guesses_N: NDArray[np.bool_] | None = None if threshold is None else guess_members(scores_N, threshold)
    metrics = measure_attack(scores_N, evidence.member_N, stream("metrics"), guesses_N)
    uses_scored = Needs.POPULATION in attack.needs and not evidence.population_given
    return AttackResult(attack, scores_N, metrics, (_WITHOUT_POPULATION,) if uses_scored else ())
