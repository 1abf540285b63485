"""From scores to guesses: the threshold an attacker chooses on its shadow models."""

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from raymia.attacks.adversarial_queries import without_queries
from raymia.attacks.protocol import Attack, AttackerView, Needs, Scores, ShadowSignals, missing, scores_of
from raymia.attacks.rehearsal import rehearsals
from raymia.errors import InputError

_FOLDS = 2
_REHEARSED = frozenset({Needs.OUT_REFERENCES, Needs.IN_REFERENCES, Needs.POPULATION})
_LARGEST = 1e300  # infinite scores count as this large: a threshold stays finite


@runtime_checkable
class ChosenThreshold(Protocol):
    """An attack whose scores already stand relative to a threshold chosen on the shadows."""

    @property
    def threshold(self) -> float: ...


def guess_members(scores_N: Scores, threshold: float) -> NDArray[np.bool_]:
    """bool[N]: guessed to be a member where score >= threshold."""
    return scores_N >= threshold


def best_threshold(scores_N: Scores, member_N: NDArray[np.bool_]) -> float:
    """The threshold of the largest balanced accuracy, halfway between the two scores it separates.

    Of several equally good ones the highest, which raises the fewest false alarms. Always finite. Raises InputError
    where members or non-members are lacking, ValueError for a NaN score.
    """
    if np.isnan(scores_N).any():
        raise ValueError("scores must not be NaN")
    members, others = int(member_N.sum()), int((~member_N).sum())
    if not members or not others:
        raise InputError(
            f"a threshold needs members and non-members, got {members} and {others} shadow records:"
            " give the shadow models more records"
        )
    values_T, place_N = np.unique(np.clip(scores_N, -_LARGEST, _LARGEST), return_inverse=True)
    hits_T = _count_from(place_N[member_N], len(values_T))
    alarms_T = _count_from(place_N[~member_N], len(values_T))
    # TPR - FPR times both counts: whole numbers, so that equally good thresholds compare equal.
    advantage_T = hits_T * others - alarms_T * members
    best = int(np.flatnonzero(advantage_T == advantage_T.max())[-1])
    return _between(values_T, best)


def shadow_threshold(attack: Attack, view: AttackerView, rng: np.random.Generator) -> float | None:
    """The threshold that serves this attack best on the attacker's own models; None where it has none to try it on.

    An attack by reference models or by population records rehearses on some references (`raymia.attacks.rehearsal`).
    For any other the shadow models' records are pooled: scores of records that an attack was fitted on would look too
    good, so the records of every shadow are halved (stratified by membership), each half is scored by the attack fitted
    on the other, and the threshold of the largest balanced accuracy is chosen on these held-out scores. An attack that
    fits nothing gets the same as without halving. An attack with a `threshold` of its own keeps it.

    rng: a stream of its own, not the one `run_attack` fits with. Raises InputError where fewer than two shadow records
    are members or non-members.
    """
    itself = without_queries(attack)
    if isinstance(itself, ChosenThreshold):
        return itself.threshold
    if attack.needs & _REHEARSED:
        return _rehearsed_threshold(attack, view, rng)
    if not view.shadows or any(missing(attack, view, shadow.signals) for shadow in view.shadows):
        return None
    fold_of = [_folds(shadow.member_N, rng) for shadow in view.shadows]
    scores, members = [], []
    for fold in range(_FOLDS):
        training = [_part(shadow, of != fold) for shadow, of in zip(view.shadows, fold_of, strict=True)]
        state = attack.fit(AttackerView(view.classes, training), rng)
        for shadow, of in zip(view.shadows, fold_of, strict=True):
            held_out = _part(shadow, of == fold)
            scores.append(attack.score(state, held_out.signals))
            members.append(held_out.member_N)
    return best_threshold(np.concatenate(scores), np.concatenate(members))


def _rehearsed_threshold(attack: Attack, view: AttackerView, rng: np.random.Generator) -> float | None:
    scores, members = [], []
    for rehearsal in rehearsals(view, attack.needs, rng):
        scores.append(scores_of(attack, attack.fit(rehearsal.view, rng), rehearsal.target))
        members.append(rehearsal.member_N)
    return best_threshold(np.concatenate(scores), np.concatenate(members)) if scores else None


def _folds(member_N: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """The fold of each record, members and non-members spread evenly, at random."""
    fold_N = np.empty(len(member_N), np.int64)
    for rows in (np.flatnonzero(member_N), np.flatnonzero(~member_N)):
        fold_N[rng.permutation(rows)] = np.arange(len(rows)) % _FOLDS
    return fold_N


def _part(shadow: ShadowSignals, keep_N: NDArray[np.bool_]) -> ShadowSignals:
    return ShadowSignals(shadow.signals.take(keep_N), shadow.member_N[keep_N])


def _count_from(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """How many places are at or above each of 0 … size - 1."""
    return np.bincount(places, minlength=size)[::-1].cumsum()[::-1]


def _between(values_T: Scores, place: int) -> float:
    upper = float(values_T[place])
    if place == 0:
        return upper
    lower = float(values_T[place - 1])
    middle = lower + (upper - lower) / 2
    return middle if middle > lower else upper
