"""Synthetic worlds: a target model, the attacker's own models, and all that any attack may ask of them."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from raymia.attacks import AttackerView, ReferenceRecords, References, ShadowSignals, Signals
from raymia.records.plan import reference_membership

MODELS = 16


@dataclass(frozen=True)
class World:
    """The attacker's side, the target's answers, and the truth bool[N]."""

    view: AttackerView
    target: Signals
    member_N: NDArray[np.bool_]


@dataclass(frozen=True)
class _Records:
    """hardness_N: what lowers every model's true logit, and shows as brightness in the image."""

    labels_N: NDArray[np.int64]
    hardness_N: NDArray[np.float64]
    images_N: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels_N)


@cache
def make_world(
    seed: int, edge: float, *, records: int = 200, classes: int = 5, queries: int = 2, models: int = MODELS
) -> World:
    """edge: what membership adds to a model's true logits. Half of the records are members, references train on halves
    drawn independently of the target, and nobody trains on the population (as many records again). Worlds are shared
    between tests: change none.
    """
    rng = np.random.default_rng(seed)
    scored, outside, own = (_records(rng, size, classes) for size in (records, records, records))
    member_N, shadow_N = (rng.permutation(np.arange(records) % 2 == 0) for _ in range(2))
    in_MN = reference_membership(records, models=models, seed=seed, target=0)
    nobody_MN = np.zeros((models, records), dtype=np.bool_)

    def answers(of: _Records, inside_N: NDArray[np.bool_]) -> NDArray[np.float32]:
        logits_NQC = rng.normal(size=(len(of), queries, classes))
        logits_NQC[np.arange(len(of)), :, of.labels_N] += (1 + edge * inside_N - of.hardness_N)[:, None]
        return logits_NQC.astype(np.float32)

    def signals(of: _Records, inside_N: NDArray[np.bool_], references: References | None = None) -> Signals:
        norms_N = np.exp(rng.normal(size=len(of)) - edge * inside_N)
        return Signals(answers(of, inside_N), of.labels_N, references, norms_N, of.images_N)

    references = References.of([answers(scored, inside_N) for inside_N in in_MN], in_MN)
    strangers = References.of([answers(outside, nobody_N) for nobody_N in nobody_MN], nobody_MN)
    view = AttackerView(
        classes,
        (ShadowSignals(signals(own, shadow_N), shadow_N),),
        ReferenceRecords(scored.labels_N, references),
        signals(outside, np.zeros(records, dtype=np.bool_), strangers),
    )
    return World(view, signals(scored, member_N, references), member_N)


def _records(rng: np.random.Generator, size: int, classes: int) -> _Records:
    hardness_N = rng.normal(size=size)
    images_N = np.clip(128 + 30 * hardness_N[:, None, None, None] + rng.normal(0, 20, (size, 8, 8, 1)), 0, 255)
    return _Records(rng.integers(0, classes, size), hardness_N, images_N.astype(np.uint8))


def two_class_logits(phi: NDArray[np.float64]) -> NDArray[np.float32]:
    """Answers whose logit-scaled confidence in class 0 is phi: one more axis, of two classes."""
    return np.stack([phi, np.zeros_like(phi)], axis=-1).astype(np.float32)


def world_of_confidences(
    phi_NQ: NDArray[np.float64],
    phi_MNQ: NDArray[np.float64],
    in_MN: NDArray[np.bool_],
    out_MN: NDArray[np.bool_] | None = None,
    population: Signals | None = None,
) -> tuple[AttackerView, Signals]:
    """The attacker's side and the target's answers, given all models' phi."""
    labels_N = np.zeros(len(phi_NQ), dtype=np.int64)
    answers = [two_class_logits(one_NQ) for one_NQ in phi_MNQ]
    references = References(answers, np.arange(len(phi_NQ)), in_MN, ~in_MN if out_MN is None else out_MN)
    view = AttackerView(2, records=ReferenceRecords(labels_N, references), population=population)
    return view, Signals(two_class_logits(phi_NQ), labels_N, references)
