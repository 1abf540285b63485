from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from raymia.attacks import AttackerView, QuantileRegression, Signals, run_attack
from raymia.attacks.gaussian_regressor import GaussianRegressor, Steps, train_gaussian_regressor
from raymia.errors import InputError
from tests.attacks.worlds import two_class_logits

KINDS = pytest.mark.parametrize("images", [False, True], ids=["features", "images"])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def drawn(seed: int, records: int, images: bool, edge: NDArray[np.bool_] | None = None) -> Signals:
    """The margin's mean follows the first feature (an image's brightness) and the class, its spread the second (the
    contrast of its halves); members' lies 1.5 spreads higher.
    """
    draw = rng(seed)
    first, second = draw.uniform(-1, 1, (2, records))
    labels_N = draw.integers(0, 2, records)
    deviation_N = np.exp(second)
    margin_N = 4 * first + 2 * labels_N + deviation_N * draw.normal(size=records)
    if edge is not None:
        margin_N += 1.5 * deviation_N * edge
    inputs: NDArray[Any] = np.stack([first, second, draw.normal(size=records)], axis=1).astype(np.float32)
    if images:
        halves = np.where(np.arange(8) < 4, 1, -1)[None, :, None, None]
        pixels = 128 + 60 * first[:, None, None, None] + 60 * second[:, None, None, None] * halves
        inputs = np.clip(pixels + np.zeros((records, 8, 8, 1)), 0, 255).astype(np.uint8)
    logits = two_class_logits(margin_N[:, None])
    logits[labels_N == 1] = logits[labels_N == 1][:, :, ::-1]
    return Signals(logits, labels_N, inputs_N=inputs)


@cache
def fitted(images: bool) -> GaussianRegressor:
    return QuantileRegression().fit(AttackerView(2, population=drawn(1, 5000, images)), rng())


@KINDS
def test_the_false_positive_rate_is_the_one_asked_for_and_the_attack_sees_what_is_hard(images: bool) -> None:
    member_N = np.arange(6000) % 2 == 0
    scores = QuantileRegression().score(fitted(images), drawn(2, 6000, images, member_N))
    for alpha in (0.02, 0.1, 0.3):
        realized = float((scores[~member_N] > norm.ppf(1 - alpha)).mean())
        assert realized == pytest.approx(alpha, abs=0.3 * alpha)
    # With the true mean and spread 44% of the members lie above 5% of the others; by the margin alone 19% do.
    caught = float((scores[member_N] > np.quantile(scores[~member_N], 0.95)).mean())
    assert caught > 0.36


@KINDS
def test_calibration_holds_for_hard_and_easy_records_alike(images: bool) -> None:
    others = drawn(3, 6000, images)
    scores = QuantileRegression().score(fitted(images), others)
    inputs = others.inputs_N
    assert inputs is not None
    spread_N = inputs[:, 1] if not images else inputs[:, 0, 0, 0].astype(float) - inputs[:, 7, 0, 0]
    for rows in (spread_N < np.median(spread_N), spread_N >= np.median(spread_N), others.labels_N == 1):
        assert float((scores[rows] > norm.ppf(0.9)).mean()) == pytest.approx(0.1, abs=0.04)


@KINDS
def test_torchs_generator_and_threads_are_neither_read_nor_moved(images: bool) -> None:
    view, target = AttackerView(2, population=drawn(1, 100, images)), drawn(2, 50, images)
    attack = QuantileRegression(Steps(steps=60, batch=32))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        scores = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            scores.append(run_attack(attack, view, target, rng(3)))
            assert torch.equal(before, torch.get_rng_state())
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], run_attack(attack, view, target, rng(4)))


def test_the_weights_that_serve_held_out_records_best_are_kept() -> None:
    """Noise alone, and few records: trained on, the net would learn them by heart and be sure of what it can't know."""
    draw = rng()
    inputs, labels, values = draw.normal(size=(60, 20)).astype(np.float32), np.zeros(60, np.int64), draw.normal(size=60)
    steps = Steps(steps=600, batch=32, every=10, patience=1000)
    net = train_gaussian_regressor(inputs, labels, values, 2, steps, rng())
    fresh = draw.normal(size=(4000, 20)).astype(np.float32)
    scores = net.standardized(fresh, np.zeros(4000, np.int64), draw.normal(size=4000))
    assert scores.std() < 1.5


def test_the_margins_unit_does_not_matter() -> None:
    population, target = drawn(1, 400, False), drawn(2, 100, False)
    attack = QuantileRegression(Steps(steps=100))

    def scaled(signals: Signals) -> Signals:
        return Signals(signals.logits_NQC * np.float32(1024), signals.labels_N, inputs_N=signals.inputs_N)

    plain = run_attack(attack, AttackerView(2, population=population), target, rng())
    large = run_attack(attack, AttackerView(2, population=scaled(population)), scaled(target), rng())
    assert large == pytest.approx(plain, abs=1e-3)


@KINDS
def test_inputs_that_never_change_are_harmless(images: bool) -> None:
    population, target = drawn(1, 100, images), drawn(2, 20, images)
    assert population.inputs_N is not None
    constant = Signals(population.logits_NQC, population.labels_N, inputs_N=np.zeros_like(population.inputs_N))
    scores = run_attack(QuantileRegression(Steps(steps=20)), AttackerView(2, population=constant), target, rng())
    assert np.isfinite(scores).all()


def test_too_small_a_population_or_one_without_images_is_refused() -> None:
    target = drawn(2, 20, False)
    few, blind = drawn(1, 9, False), Signals(target.logits_NQC, target.labels_N)
    for population in (few, blind):
        with pytest.raises(
            InputError, match="quantile_regression needs 10 or more population records with their images"
        ):
            run_attack(QuantileRegression(), AttackerView(2, population=population), target, rng())
