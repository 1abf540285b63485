"""Membership signals of logits, exact where the model is sure of itself.

An over-fitted model answers with posteriors so close to 1 that `1 - p` and `log p` lose every digit, and records that
differ become equal. Nothing here subtracts a posterior from 1: sums over the *other* classes stay in log space, in
float64, so no value is clamped and records tie only where their answers do. A logit of -inf (a posterior of exactly 0)
is a number like any other; a logit of NaN gives NaN.

Arrays: logits_NC, N records by C >= 2 classes, any float type. labels_N: the true classes y. Results are float64, in
nats. p is the softmax of the logits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
AnyFloats = NDArray[np.floating[Any]]
Labels = NDArray[np.int64]


def log_posteriors(logits_NC: AnyFloats) -> Floats:
    """log p_k of every class: float64[N, C], to full relative precision for the likeliest class too."""
    return _log_posteriors_and_complements(logits_NC)[0]


def scaled_confidence(logits_NC: AnyFloats, labels_N: Labels) -> Floats:
    """phi = log p_y - log(1 - p_y) = z_y - logsumexp of the other logits: float64[N].

    The logit-scaled confidence of Carlini et al. 2022 (arXiv 2112.03570, LiRA). -inf where p_y is 0, inf where it is 1.
    """
    true_N = logits_NC[np.arange(len(labels_N)), labels_N].astype(np.float64)
    return true_N - _log_sum_exp_without(logits_NC, labels_N)


def cross_entropy(logits_NC: AnyFloats, labels_N: Labels) -> Floats:
    """-log p_y: float64[N], >= 0; inf where p_y is 0.

    Computed as log(1 + exp(-phi)), which keeps its digits where -log p_y would round to 0.
    """
    return np.logaddexp(0.0, -scaled_confidence(logits_NC, labels_N))


def entropy(logits_NC: AnyFloats) -> Floats:
    """H = -sum_k p_k log p_k: float64[N], between 0 and log C."""
    log_p_NC = log_posteriors(logits_NC)
    return -_product(np.exp(log_p_NC), log_p_NC).sum(axis=1)


def modified_entropy(logits_NC: AnyFloats, labels_N: Labels) -> Floats:
    """-(1 - p_y) log p_y - sum_{k != y} p_k log(1 - p_k): float64[N], >= 0; inf for a sure and wrong answer.

    Song and Mittal 2021 (arXiv 2003.10595): an entropy that is 0 only where the model is sure *and* right.
    """
    log_p_NC, log_rest_NC = _log_posteriors_and_complements(logits_NC)
    column_N1 = labels_N[:, None]
    terms_NC = _product(np.exp(log_p_NC), log_rest_NC)
    true_N1 = _product(
        np.exp(np.take_along_axis(log_rest_NC, column_N1, axis=1)),
        np.take_along_axis(log_p_NC, column_N1, axis=1),
    )
    np.put_along_axis(terms_NC, column_N1, true_N1, axis=1)
    return -terms_NC.sum(axis=1)


def _log_posteriors_and_complements(logits_NC: AnyFloats) -> tuple[Floats, Floats]:
    """log p_k and log(1 - p_k), each float64[N, C]."""
    logits_NC = _as_float64(logits_NC)
    top_N1 = logits_NC.argmax(axis=1)[:, None]
    shifted_NC = logits_NC - np.take_along_axis(logits_NC, top_N1, axis=1)
    log_others_N1 = _log_sum_exp_without(shifted_NC, top_N1[:, 0])[:, None]
    log_total_N1 = np.logaddexp(0.0, log_others_N1)
    log_p_NC = shifted_NC - log_total_N1

    # Every class but the likeliest has p <= 1/2, where log1p is exact; the likeliest takes the sum of the others.
    p_NC = np.exp(log_p_NC)
    np.put_along_axis(p_NC, top_N1, 0.0, axis=1)
    log_rest_NC = np.log1p(-p_NC)
    np.put_along_axis(log_rest_NC, top_N1, log_others_N1 - log_total_N1, axis=1)
    return log_p_NC, log_rest_NC


def _log_sum_exp_without(logits_NC: AnyFloats, left_out_N: NDArray[np.int64]) -> Floats:
    """logsumexp over the classes except one a record: float64[N]."""
    # A row for each class: every step is one pass over the records, several times as fast as many short sums.
    others_CN = np.array(logits_NC.T, dtype=np.float64, order="C")
    others_CN[left_out_N, np.arange(len(left_out_N))] = -np.inf
    largest_N = others_CN.max(axis=0)
    largest_N[~np.isfinite(largest_N)] = 0.0
    others_CN -= largest_N
    np.exp(others_CN, out=others_CN)
    total_N = np.zeros_like(largest_N)
    for row_N in others_CN:  # one by one: the order in which sum(axis=0) adds depends on how many records there are
        total_N += row_N
    with np.errstate(divide="ignore"):
        result: Floats = largest_N + np.log(total_N)
    return result


def _product(p: Floats, log_q: Floats) -> Floats:
    """p log q with the limit 0 · log 0 = 0."""
    return np.where(p == 0, 0.0, np.where(p == 0, 0.0, log_q) * p)


def _as_float64(logits_NC: AnyFloats) -> Floats:
    # One memory layout, so that a record's sums run in one order wherever the array comes from.
    return np.ascontiguousarray(logits_NC, dtype=np.float64)
