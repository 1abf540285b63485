"""The expected scores of every attack by name, and of an attack with a known mistake in it."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymia.conformance import plain, plain_references
from raymia.conformance.golden import Arrays, Scores
from raymia.conformance.plain import Answer
from raymia.conformance.plain_references import Compared, Variance

TUNED = tuple(step / 10 for step in range(11))
"""a of RMIA's formula P(x) = ((1 + a) P_OUT + (1 - a)) / 2, which every tool tunes in its own way: one of these."""

_TUNED = (("rmia", True, True), ("rmia_offline", False, True), ("rmia_ratio_offline", False, False))

WITH_A = "@a="
"""Between an attack's name and the a its scores are with."""

LEARNED = frozenset({"nn_sorted_logits", "nn_top3_posteriors", "quantile_regression", "label_only_augmentation"})
"""Attacks without expected scores: gradient descent of another tool ends elsewhere."""


class Mistake(StrEnum):
    """What tools get wrong; in words, for who made it."""

    DIVISOR = "a variance with the divisor n where n - 1 belongs"
    PROBABILITY = "the probability p_y in the place of phi = log p_y - log(1 - p_y)"
    SOFTMAX_TWICE = "probabilities taken for logits"


def expected_scores(arrays: Arrays, model: Arrays, mistake: Mistake | None = None) -> dict[str, Scores]:
    """Of every attack that does not learn. mistake: made wherever it can be made."""
    if mistake is Mistake.SOFTMAX_TWICE:
        arrays = {name: _softmax(values) if name.endswith("logits") else values for name, values in arrays.items()}
    measures = {
        "loss": plain.loss,
        "entropy": plain.entropy,
        "modified_entropy": plain.modified_entropy,
    }
    found = {name: -plain.each(arrays, "target", measure) for name, measure in measures.items()}
    found |= {f"{name}_per_class": plain.per_class(arrays, measure) for name, measure in measures.items()}
    found |= _lira(arrays, mistake)
    found["rmia_ratio"] = plain_references.rmia(arrays, True, False, 0.0)  # a plays no part
    for name, online, counts in _TUNED:
        found |= {f"{name}{WITH_A}{a:g}": plain_references.rmia(arrays, online, counts, a) for a in TUNED}
    found["calibrated_loss"] = plain_references.calibrated_loss(arrays, online=True)
    found["calibrated_loss_offline"] = plain_references.calibrated_loss(arrays, online=False)
    found["attack_r"] = plain_references.attack_r(plain_references.compare(arrays, plain.phi))
    found["attack_p"] = plain.attack_p(arrays)
    found["label_only_gap"] = plain.each(arrays, "target", plain.right)
    found["gradient_norm"] = plain.gradient_norm(model)
    return found


def _lira(arrays: Arrays, mistake: Mistake | None) -> dict[str, Scores]:
    measure = _true_probability if mistake is Mistake.PROBABILITY else plain.phi
    compared = plain_references.compare(arrays, measure)
    divisor = 0 if mistake is Mistake.DIVISOR else 1
    found = {}
    for rule, (inside, outside, offline) in _variances(compared, divisor).items():
        # 8 IN and 8 OUT models are too few for variances of each record's own: residuals are the rule by default.
        for suffix in ("", f"_{rule}") if rule == "fixed_residual" else (f"_{rule}",):
            found[f"lira_online{suffix}"] = plain_references.lira_online(compared, inside, outside)
            found[f"lira_offline{suffix}"] = plain_references.lira_offline(compared, offline)
            found[f"lira_offline_two_sided{suffix}"] = plain_references.lira_offline_two_sided(compared, offline)
    return found


def _variances(compared: Compared, divisor: int) -> Mapping[str, tuple[Variance, Variance, Variance]]:
    """By rule: of IN, of OUT, and of OUT where there is no IN."""
    own = plain_references.per_example(divisor)
    official_in, official_out = (plain_references.fixed_official(compared, inside) for inside in (True, False))

    def both(rule: Callable[[Compared, bool, int], Variance]) -> tuple[Variance, Variance, Variance]:
        inside, outside = (rule(compared, kind, divisor) for kind in (True, False))
        return inside, outside, outside

    return {
        "per_example": (own, own, own),
        "fixed_residual": both(plain_references.fixed_residual),
        "fixed_official": (official_in, official_in, official_out),
        "shrunk": both(plain_references.shrunk),
    }


def _true_probability(logits: Answer, label: int) -> float:
    return plain.posteriors(logits)[label]


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    weights = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    posteriors: NDArray[Any] = weights / weights.sum(axis=-1, keepdims=True)
    return posteriors
