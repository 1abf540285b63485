"""Synthetic answers of models, with known membership."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from raymia.attacks import ShadowSignals, Signals

World = Callable[..., ShadowSignals]


@pytest.fixture(scope="session")
def answers() -> World:
    """One model's answers and their membership: `edge` is what membership adds to the true class's logit."""

    def make(seed: int, edge: float, records: int = 200, classes: int = 5, queries: int = 1) -> ShadowSignals:
        rng = np.random.default_rng(seed)
        member_N = rng.permutation(np.arange(records) % 2 == 0)
        labels_N = rng.integers(0, classes, records)
        logits_NQC = rng.normal(size=(records, queries, classes))
        logits_NQC[np.arange(records), :, labels_N] += (2 + edge * member_N)[:, None]
        return ShadowSignals(Signals(logits_NQC.astype(np.float32), labels_N), member_N)

    return make


@pytest.fixture(scope="session")
def auc() -> Callable[[NDArray[np.float64], NDArray[np.bool_]], float]:
    """P(member > non-member) + P(equal) / 2, over all pairs."""

    def by_pairs(scores_N: NDArray[np.float64], member_N: NDArray[np.bool_]) -> float:
        inside, outside = scores_N[member_N][:, None], scores_N[~member_N][None, :]
        return float(np.mean((inside > outside) + 0.5 * (inside == outside)))

    return by_pairs
