"""Memorization: what leaks is seen, what does not is not, and the interval says how sure that is."""

import numpy as np
import pytest

from raymia.errors import InputError
from raymia.metrics.intervals import wilson
from raymia.metrics.roc import auc_of, group_scores
from raymia.metrics.synthetic_copies import closer_to_train, copy_ratio, copy_share, nearest_copy_scores
from raymia.metrics.synthetic_neighbors import Nearest, nearest


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 1), dtype=np.uint8)


def noisy(originals: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-20, 21, originals.shape)
    return np.clip(originals.astype(int) + noise, 0, 255).astype(np.uint8)


def near(distances: list[float], rows: list[int], references: int = 10) -> Nearest:
    return Nearest(np.array(distances, dtype=float)[:, None], np.array(rows), references)


def test_fraction_by_hand_ties_count_half() -> None:
    found = closer_to_train(near([1, 2, 3, 4], [0, 1, 2, 3]), near([2, 1, 3, 5], [4, 5, 6, 7]))
    assert (found.fraction, found.images, found.effective, found.references) == (2.5 / 4, 4, 4, 10)
    assert (found.low, found.high) == (wilson(2.5 / 4, 4).low, wilson(2.5 / 4, 4).high)


def test_images_that_share_their_nearest_record_count_as_one() -> None:
    # Six images at training record 0, six at held-out record 0, which is another one: 144 / (36 + 36).
    found = closer_to_train(near([1] * 6 + [9] * 6, [0] * 12), near([2] * 6 + [1] * 6, [5] * 6 + [0] * 6))
    assert (found.fraction, found.effective) == (0.5, 2)
    assert (found.low, found.high) == (wilson(0.5, 2).low, wilson(0.5, 2).high)
    alone = closer_to_train(near([1] * 6 + [9] * 2, list(range(8))), near([2] * 6 + [1] * 2, list(range(8))))
    assert alone.effective == 8


def test_a_generator_that_never_saw_the_records_is_at_half_and_one_that_copies_is_not() -> None:
    train, heldout = images(150, 0), images(150, 1)
    fresh = closer_to_train(nearest(images(300, 2), train), nearest(images(300, 2), heldout))
    assert fresh.low <= 0.5 <= fresh.high
    copied = noisy(train, 3)
    leaking = closer_to_train(nearest(copied, train), nearest(copied, heldout))
    assert leaking.fraction == 1
    assert leaking.low > 0.9
    assert leaking.effective == 150


def test_the_interval_covers_half_where_one_over_images_does_not() -> None:
    draw = np.random.default_rng(0)
    covered, naive, runs = 0, 0, 120
    for _ in range(runs):
        train, heldout, modes = (draw.normal(size=(size, 16)) for size in (60, 60, 8))
        generated = modes[draw.integers(0, 8, 300)] + 0.1 * draw.normal(size=(300, 16))
        found = closer_to_train(nearest(generated, train), nearest(generated, heldout))
        covered += found.low <= 0.5 <= found.high
        naive += 0.5 in wilson(found.fraction, 300)
    assert covered / runs > 0.9
    assert naive / runs < 0.5


def test_refuses_sets_of_unequal_size_and_other_images() -> None:
    with pytest.raises(InputError, match="equally many of each"):
        closer_to_train(near([1], [0], 10), near([1], [0], 9))
    with pytest.raises(InputError, match="the same ones"):
        closer_to_train(near([1], [0]), near([1, 2], [0, 1]))


def test_copy_ratio_by_hand() -> None:
    ratios = copy_ratio(Nearest(np.array([[1.0, 2.0, 3.0], [0.0, 4.0, 5.0], [0.0, 0.0, 0.0]]), np.zeros(3, int), 9))
    assert ratios.tolist() == [0.5, 0, 0]
    # Below the threshold, not at it.
    assert copy_share(ratios) == 2 / 3
    assert copy_share(ratios, below=0.6) == 1


def test_planted_copies_are_the_ones_found() -> None:
    train = images(100, 0)
    generated = np.concatenate([noisy(train[:15], 1), images(45, 2)])
    ratios = copy_ratio(nearest(generated, train, count=50))
    assert ratios[:15].max() < 0.5 < ratios[15:].min()
    assert copy_share(ratios) == 0.25


def test_copy_ratio_and_share_refuse_what_says_nothing() -> None:
    with pytest.raises(InputError, match="at least two"):
        copy_ratio(near([1], [0]))
    with pytest.raises(InputError, match="no generated image"):
        copy_share(np.zeros(0))


def test_nearest_copy_attack_finds_the_records_whose_copies_were_generated() -> None:
    records = images(120, 0)
    member = np.arange(120) < 60
    generated = np.concatenate([noisy(records[:30, :, ::-1], 1), images(200, 2)])
    scores = nearest_copy_scores(records, generated, flips=True)
    assert scores.dtype == np.float64
    assert scores.shape == (120,)
    assert scores[:30].min() > scores[30:].max()
    assert auc_of(group_scores(scores, member)) > 0.7
    # Without flips the mirrored copies are no copies.
    assert nearest_copy_scores(records, generated)[:30].max() < scores[:30].min()
    assert nearest_copy_scores(records, records).tolist() == [0.0] * 120
