"""Attacks that look at the target alone, or at a shadow model or population too: each as its definition says.

Loops over records, float64, no code of `raymia.attacks`. Every score: larger = more likely a member. 1 - p of a class
is the sum over the other classes everywhere, so that sure answers keep their digits.
"""

import math
from collections.abc import Callable

import numpy as np

from raymia.conformance.golden import Arrays, Scores

Answer = list[float]
PRIOR_RECORDS = 25.0  # of class-wise thresholds: how many records the threshold of all classes weighs


def posteriors(logits: Answer) -> Answer:
    """p = softmax(z)."""
    largest = max(logits)
    weights = [math.exp(z - largest) for z in logits]
    return [weight / math.fsum(weights) for weight in weights]


def without(values: Answer, left_out: int) -> Answer:
    """All values but one."""
    return [value for k, value in enumerate(values) if k != left_out]


def log_sum_exp(values: Answer) -> float:
    """log sum exp(z)."""
    largest = max(values)
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values))


def phi(logits: Answer, label: int) -> float:
    """log p_y - log(1 - p_y) = z_y - log sum of exp(z_k) over k != y (Carlini et al. 2022)."""
    return logits[label] - log_sum_exp(without(logits, label))


def loss(logits: Answer, label: int) -> float:
    """-log p_y = log(1 + sum of exp(z_k - z_y) over k != y)."""
    return math.log1p(math.exp(-phi(logits, label)))


def entropy(logits: Answer, label: int) -> float:
    """-sum p log p; the label does not matter."""
    everything = log_sum_exp(logits)
    return -math.fsum(p * (z - everything) for p, z in zip(posteriors(logits), logits, strict=True))


def modified_entropy(logits: Answer, label: int) -> float:
    """-(1 - p_y) log p_y - sum of p_k log(1 - p_k) over k != y (Song and Mittal 2021)."""
    p = posteriors(logits)
    rest = [log_sum_exp(without(logits, k)) - log_sum_exp(logits) for k in range(len(p))]  # log(1 - p_k)
    others = math.fsum(p[k] * rest[k] for k in range(len(p)) if k != label)
    return math.exp(rest[label]) * loss(logits, label) - others


def right(logits: Answer, label: int) -> float:
    """1 where the largest logit is that of the true class."""
    return float(max(range(len(logits)), key=logits.__getitem__) == label)


def each(arrays: Arrays, whose: str, measure: Callable[[Answer, int], float]) -> Scores:
    """A measure of the answers to the records themselves (query 0). whose: target, shadow or population."""
    labels = arrays["labels" if whose == "target" else f"{whose}_labels"].tolist()
    answers = arrays[f"{whose}_logits"][:, 0].tolist()
    return np.array([measure(answer, label) for answer, label in zip(answers, labels, strict=True)])


def best_threshold(scores: list[float], members: list[bool]) -> float:
    """The threshold of the largest TPR - FPR, of equal ones the highest, halfway to the next smaller score."""
    inside = [score for score, member in zip(scores, members, strict=True) if member]
    outside = [score for score, member in zip(scores, members, strict=True) if not member]

    def advantage(threshold: float) -> int:
        hits, alarms = (sum(score >= threshold for score in group) for group in (inside, outside))
        return hits * len(outside) - alarms * len(inside)  # whole numbers: equal ones compare equal

    values = sorted(set(scores))
    best = max(range(len(values)), key=lambda place: (advantage(values[place]), place))
    return (values[best] + values[best - 1]) / 2 if best else values[0]


def per_class(arrays: Arrays, measure: Callable[[Answer, int], float]) -> Scores:
    """-measure, less a threshold of the record's class, chosen on the shadow's records.

    w t_c + (1 - w) t with w = n / (n + 25), n the scarcer kind of that class, t_c and t the best thresholds of the
    class and of all; t where the class has only members, or only non-members (Song and Mittal 2021, shrunk).
    """
    shadow, members = (-each(arrays, "shadow", measure)).tolist(), arrays["shadow_member"].tolist()
    overall = best_threshold(shadow, members)
    thresholds = {}
    for label in range(arrays["target_logits"].shape[2]):
        rows = [row for row, its in enumerate(arrays["shadow_labels"]) if its == label]
        kinds = [members[row] for row in rows]
        scarcer = min(sum(kinds), len(kinds) - sum(kinds))
        weight = scarcer / (scarcer + PRIOR_RECORDS)
        own = best_threshold([shadow[row] for row in rows], kinds) if scarcer else 0.0
        thresholds[label] = weight * own + (1 - weight) * overall
    return -each(arrays, "target", measure) - np.array([thresholds[label] for label in arrays["labels"].tolist()])


def attack_p(arrays: Arrays) -> Scores:
    """The share of the population with at least the record's loss (Ye et al. 2022)."""
    population = each(arrays, "population", phi)
    return np.array([np.mean([own >= z for z in population]) for own in each(arrays, "target", phi)])


def gradient_norm(model: Arrays) -> Scores:
    """-the norm of the loss's gradient by the weights of a linear model: |p - e_y| sqrt(|x|² + 1)."""
    scores = []
    for x, label in zip(model["inputs"].astype(np.float64), model["labels"].tolist(), strict=True):
        p = posteriors((model["weights"].astype(np.float64) @ x + model["bias"]).tolist())
        error = [p_k - (k == label) for k, p_k in enumerate(p)]
        error[label] = -math.fsum(without(p, label))
        scores.append(-math.sqrt(math.fsum(e * e for e in error) * (float(x @ x) + 1)))
    return np.array(scores)
