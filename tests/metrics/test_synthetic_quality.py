"""The quality of one synthetic set: every number is taken from the right sets, at equal sizes, and survives JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest

from raymia.errors import InputError
from raymia.metrics.intervals import t_interval, wilson
from raymia.metrics.synthetic import (
    Pictures,
    SyntheticQuality,
    accuracy_estimate,
    agreement,
    agreement_with_floor,
    class_balance,
    measure_synthetic,
)


def pictures(count: int, seed: int, shift: float = 0.0) -> Pictures:
    """Images whose features are two means of their halves: a shift in brightness moves the features."""
    draw = np.random.default_rng(seed)
    images = np.clip(draw.normal(110 + shift, 40, (count, 4, 4, 1)), 0, 255).astype(np.uint8)
    halves = [images[:, :2].mean(axis=(1, 2, 3)), images[:, 2:].mean(axis=(1, 2, 3))]
    return Pictures(images, np.stack(halves, axis=1).astype(np.float32) / 255)


def measured(synthetic: Pictures, **options) -> SyntheticQuality:
    labels = np.arange(len(synthetic)) % 3
    sets = {"train": pictures(120, 1), "heldout": pictures(150, 2)}
    rng = np.random.default_rng(0)
    defaults = {"classes": 3, "encoder": "a test", "rng": rng}
    return measure_synthetic(synthetic, labels, **(sets | defaults | options))


def test_a_fresh_set_is_at_its_floor_and_leaks_nothing() -> None:
    quality = measured(pictures(100, 3))
    assert quality.agreement.n == quality.floor.n == 75
    assert quality.agreement.kid.mean == pytest.approx(0, abs=0.01)
    for near in (quality.pixels, quality.features):
        assert near.closer.low <= 0.5 <= near.closer.high
        assert near.closer.references == 120
        assert near.copies == pytest.approx(near.chance_copies, abs=0.15)
    assert (quality.images, quality.measured, quality.dimension, quality.encoder) == (100, 100, 2, "a test")
    assert quality.balance.counts == (34, 33, 33)


def test_copies_of_training_images_are_seen_and_of_heldout_ones_are_not_mistaken_for_them() -> None:
    leaking = measured(pictures(120, 1))
    assert (leaking.pixels.closer.fraction, leaking.pixels.copies) == (1, 1)
    assert leaking.pixels.chance_copies < 0.2
    away = measured(pictures(150, 2))
    assert away.pixels.closer.fraction < 0.3
    assert away.pixels.copies < 0.2


def test_mirrored_copies_are_seen_with_flips() -> None:
    train = pictures(120, 1)
    mirrored = Pictures(train.images[:, :, ::-1], train.features)
    assert measured(mirrored).pixels.copies < 0.2
    assert measured(mirrored, flips=True).pixels.copies == 1


def test_images_of_another_distribution_are_far_above_the_floor() -> None:
    quality = measured(pictures(100, 3, shift=60))
    assert quality.agreement.frechet > 10 * quality.floor.frechet
    assert quality.agreement.kid.mean > 0.05 > quality.floor.kid.mean
    assert quality.agreement.precision < 0.3 < quality.floor.precision


def test_at_most_so_many_images_are_measured() -> None:
    quality = measured(pictures(100, 3), most=40)
    assert (quality.images, quality.measured, quality.agreement.n, quality.floor.n) == (100, 40, 40, 40)
    assert quality.pixels.closer.images == 40
    assert quality.pixels.closer.references == 120
    assert quality.balance.counts == (34, 33, 33)


def test_json_and_back() -> None:
    cas = accuracy_estimate([0.8], 100)
    for quality in (measured(pictures(60, 3)), measured(pictures(60, 3), cas=cas, real_accuracy=cas)):
        assert SyntheticQuality.from_dict(json.loads(json.dumps(quality.to_dict()))) == quality


def test_the_same_generator_gives_the_same_numbers() -> None:
    assert measured(pictures(100, 3), most=40) == measured(pictures(100, 3), most=40)


def test_floor_compares_disjoint_halves_of_the_real_records() -> None:
    # Were a record in both halves, its copy would be at distance 0 in a set whose points all lie apart.
    real = np.arange(40, dtype=np.float64)[:, None] ** 3
    synthetic = np.full((100, 1), -1e6)
    reached, floor = agreement_with_floor(real, synthetic, np.random.default_rng(0))
    assert reached.n == floor.n == 20
    assert (reached.precision, reached.coverage) == (0, 0)
    assert floor.precision > 0.5
    same = agreement(real[:20], real[:20], np.random.default_rng(0))
    assert same.frechet == pytest.approx(0, abs=1e-3)
    assert floor.frechet > 1


def test_frechet_is_left_out_below_ten_records_a_dimension() -> None:
    draw = np.random.default_rng(0)
    assert agreement(draw.normal(size=(39, 4)), draw.normal(size=(39, 4)), draw).frechet is None
    assert agreement(draw.normal(size=(40, 4)), draw.normal(size=(40, 4)), draw).frechet is not None


def test_class_balance_by_hand() -> None:
    balance = class_balance([0, 0, 0, 2], 4)
    assert balance.counts == (3, 0, 1, 0)
    assert (balance.smallest, balance.largest) == (0, 0.75)
    assert balance.entropy == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(4))
    assert class_balance(np.arange(10), 10).entropy == pytest.approx(1)
    assert class_balance([1, 1], 2).entropy == 0


def test_accuracy_of_one_classifier_has_the_records_interval_and_of_several_students() -> None:
    one = accuracy_estimate([0.8], 50)
    assert (one.value, one.low, one.high) == (0.8, wilson(0.8, 50).low, wilson(0.8, 50).high)
    several = accuracy_estimate([0.8, 0.84, 0.82], 50)
    expected = t_interval([0.8, 0.84, 0.82])
    assert expected is not None
    assert (several.value, several.low, several.high) == (pytest.approx(0.82), expected.low, expected.high)
    assert accuracy_estimate([1.0, 1.0], 50).low == wilson(1.0, 50).low
    assert accuracy_estimate([0.99, 0.7], 50).high == 1


def test_refuses_what_cannot_be_measured() -> None:
    good = pictures(60, 3)
    with pytest.raises(InputError, match="keep more of them"):
        measured(replace(good, images=good.images[:5], features=good.features[:5]))
    with pytest.raises(InputError, match="keep more of them"):
        measured(good, heldout=pictures(11, 2))
    with pytest.raises(InputError, match="one row for each"):
        Pictures(good.images, good.features[:-1])
    with pytest.raises(InputError, match="give one each"):
        measure_synthetic(good, [0, 1], good, good, classes=2, encoder="a test", rng=np.random.default_rng(0))
    for labels, classes, message in (([], 2, "at least one"), ([0, 2], 2, "there are 2"), ([0.5], 2, "as integers")):
        with pytest.raises(InputError, match=message):
            class_balance(labels, classes)
    with pytest.raises(InputError, match="at least one classifier"):
        accuracy_estimate([], 10)
