"""All the attacker's shadow models as one set of labelled records."""

import numpy as np

from raymia.attacks.protocol import AttackerView, ShadowSignals, Signals
from raymia.errors import InputError


def pooled_shadows(view: AttackerView) -> ShadowSignals:
    """The records of all shadows in one, their answers to query 0 only: logits_NQC is float32[N, 1, C].

    Raises InputError where the view holds no shadow.
    """
    if not view.shadows:
        raise InputError("an attack that learns from shadow models got none: give the study shadow models")
    return ShadowSignals(
        Signals(
            np.concatenate([shadow.signals.logits_NQC[:, :1] for shadow in view.shadows]),
            np.concatenate([shadow.signals.labels_N for shadow in view.shadows]),
        ),
        np.concatenate([shadow.member_N for shadow in view.shadows]),
    )
