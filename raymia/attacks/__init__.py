"""Membership-inference attacks: what each may see, and its scores."""

from raymia.attacks.entropy import Entropy
from raymia.attacks.loss import Loss
from raymia.attacks.modified_entropy import ModifiedEntropy
from raymia.attacks.per_class import PerClass
from raymia.attacks.protocol import (
    Attack,
    AttackerView,
    Needs,
    Scores,
    ShadowSignals,
    Signals,
    run_attack,
)
from raymia.attacks.registry import (
    ATTACKS,
    DEFAULT_ATTACKS,
    ENTRY_POINT_GROUP,
    attack_named,
    attack_names,
)
from raymia.attacks.salem_nn import NN_SORTED_LOGITS, NN_TOP3_POSTERIORS, Features, SalemNN
from raymia.attacks.threshold import best_threshold, guess_members, shadow_threshold

__all__ = [
    "ATTACKS",
    "DEFAULT_ATTACKS",
    "ENTRY_POINT_GROUP",
    "NN_SORTED_LOGITS",
    "NN_TOP3_POSTERIORS",
    "Attack",
    "AttackerView",
    "Entropy",
    "Features",
    "Loss",
    "ModifiedEntropy",
    "Needs",
    "PerClass",
    "SalemNN",
    "Scores",
    "ShadowSignals",
    "Signals",
    "attack_named",
    "attack_names",
    "best_threshold",
    "guess_members",
    "run_attack",
    "shadow_threshold",
]
