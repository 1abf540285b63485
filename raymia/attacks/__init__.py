"""Membership-inference attacks: what each may see, and its scores."""

from raymia.attacks.adversarial_queries import without_queries
from raymia.attacks.attack_p import AttackP
from raymia.attacks.attack_r import AttackR
from raymia.attacks.calibrated_loss import CalibratedLoss
from raymia.attacks.entropy import Entropy
from raymia.attacks.gradient_norm import GradientNorm
from raymia.attacks.label_only import LabelOnlyAugmentation, LabelOnlyGap
from raymia.attacks.lira import Lira, LiraForm, VarianceRule
from raymia.attacks.loss import Loss
from raymia.attacks.modified_entropy import ModifiedEntropy
from raymia.attacks.per_class import PerClass
from raymia.attacks.protocol import (
    Attack,
    AttackerView,
    Needs,
    ReferenceRecords,
    Scores,
    ShadowSignals,
    Signals,
    missing,
    run_attack,
)
from raymia.attacks.quantile_regression import QuantileRegression
from raymia.attacks.references import LEAST_IN, Answers, References
from raymia.attacks.registry import (
    ATTACKS,
    DEFAULT_ATTACKS,
    ENTRY_POINT_GROUP,
    STRONG_ATTACKS,
    attack_named,
    attack_names,
)
from raymia.attacks.rmia import Rmia
from raymia.attacks.salem_nn import NN_SORTED_LOGITS, NN_TOP3_POSTERIORS, Features, SalemNN
from raymia.attacks.threshold import best_threshold, guess_members, shadow_threshold

__all__ = [
    "ATTACKS",
    "DEFAULT_ATTACKS",
    "ENTRY_POINT_GROUP",
    "LEAST_IN",
    "NN_SORTED_LOGITS",
    "NN_TOP3_POSTERIORS",
    "STRONG_ATTACKS",
    "Answers",
    "Attack",
    "AttackP",
    "AttackR",
    "AttackerView",
    "CalibratedLoss",
    "Entropy",
    "Features",
    "GradientNorm",
    "LabelOnlyAugmentation",
    "LabelOnlyGap",
    "Lira",
    "LiraForm",
    "Loss",
    "ModifiedEntropy",
    "Needs",
    "PerClass",
    "QuantileRegression",
    "ReferenceRecords",
    "References",
    "Rmia",
    "SalemNN",
    "Scores",
    "ShadowSignals",
    "Signals",
    "VarianceRule",
    "attack_named",
    "attack_names",
    "best_threshold",
    "guess_members",
    "missing",
    "run_attack",
    "shadow_threshold",
    "without_queries",
]
