"""All the attacker's shadow models as one set of labelled records."""

import numpy as np

from raymia.attacks.protocol import AttackerView, ShadowSignals, Signals
from raymia.errors import InputError


def pooled_shadows(view: AttackerView, queries: int | None = 1) -> ShadowSignals:
    """The records of all shadows in one, their answers to the first `queries` only (None: all).

    Raises InputError where the view holds no shadow, or shadows that answer different numbers of queries.
    """
    if not view.shadows:
        raise InputError("an attack that learns from shadow models got none: give the study shadow models")
    logits = [shadow.signals.logits_NQC[:, :queries] for shadow in view.shadows]
    if len({one.shape[1] for one in logits}) > 1:
        raise InputError("shadow models answer different numbers of queries: ask all models the same")
    return ShadowSignals(
        Signals(np.concatenate(logits), np.concatenate([shadow.signals.labels_N for shadow in view.shadows])),
        np.concatenate([shadow.member_N for shadow in view.shadows]),
    )


def require_both_kinds(shadow: ShadowSignals, attack: str) -> None:
    """Raise InputError unless there are members and non-members to tell apart."""
    if shadow.member_N.all() or not shadow.member_N.any():
        raise InputError(
            f"attack {attack} needs members and non-members among the shadow records:"
            " give the shadow models more records"
        )
