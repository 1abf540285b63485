"""The diffusion + mixed-sample defense: who is trained on, what is mixed with what, and what each ablation changes."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.defenses import DiffusionMixup, GeneratedOnly, build_defense
from raymia.defenses.diffusion_mixup import _pairs
from raymia.diffusion.synthesis import Synthesis
from raymia.errors import InputError
from raymia.records.plan import Exposure
from raymia.training.defense import Batch, Composed, Context, TrainingSet
from raymia.training.loop import Plan, train
from raymia.training.run import Alone
from tests.training.conftest import MemoryKeeper, equal_bits, image_rows, small_config, small_model

CLASSES = 3
MEMBERS = 20


@dataclass(frozen=True)
class Images:
    """Generated images, as a required recipe opens."""

    inputs: Any
    labels: NDArray[np.int64]


def context(members: int = MEMBERS, seed: int = 5) -> Context:
    positions = np.arange(members) + 100
    nobody = np.zeros(0, dtype=np.int64)
    return Context(positions, nobody, CLASSES, seed, lambda *_: None, lambda synthesis: synthesis)


@dataclass(frozen=True)
class Stored:
    """Images as a synthetic set hands them out."""

    images: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def take(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.images[numbers]


def generated(count: int = 9) -> Images:
    """Images that are all white: no member is."""
    white = Stored(np.full((count, 8, 8, 1), 255, dtype=np.uint8))
    return Images(white, np.arange(count, dtype=np.int64) % CLASSES)


def members(count: int = MEMBERS) -> TrainingSet:
    """Members that can be told apart: image i has all pixels i."""
    images = np.repeat(np.arange(count, dtype=np.uint8), 64).reshape(count, 8, 8, 1)
    return TrainingSet(images, np.arange(count, dtype=np.int64) % CLASSES)


def numbers_of(rows: TrainingSet) -> list[int]:
    """Which member each row is; 255 for a generated one."""
    inputs = rows.inputs if isinstance(rows.inputs, np.ndarray) else rows.inputs.take(np.arange(len(rows)))
    return [int(value) for value in inputs[:, 0, 0, 0]]


@settings(deadline=None)
@given(st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 1.0]), st.integers(0, 50))
def test_exactly_the_members_of_the_subset_are_trained_on_and_said_to_be(subset: float, seed: int) -> None:
    defense, asked = DiffusionMixup(subset=subset), context(seed=seed)
    rows = defense.training_set(asked, {"images": generated()}, members())
    trained = [number for number in numbers_of(rows) if number != 255]
    exposure = defense.exposure(asked)
    assert np.flatnonzero(exposure == Exposure.DIRECT).tolist() == sorted(trained)
    assert len(trained) == round(subset * MEMBERS)
    assert (exposure >= Exposure.INDIRECT).all()
    assert numbers_of(rows).count(255) == 9
    assert rows.labels.tolist() == [*(np.arange(9) % 3), *(np.array(sorted(trained), dtype=int) % 3)]


def test_a_larger_subset_holds_the_smaller_one_and_another_seed_draws_others() -> None:
    chosen = {
        fraction: set(np.flatnonzero(DiffusionMixup(subset=fraction).exposure(context()) == Exposure.DIRECT))
        for fraction in (0.1, 0.25, 0.5)
    }
    assert chosen[0.1] < chosen[0.25] < chosen[0.5]
    others = DiffusionMixup(subset=0.5).exposure(context(seed=6)) == Exposure.DIRECT
    assert set(np.flatnonzero(others)) != chosen[0.5]


def test_a_subset_that_rounds_to_nobody_is_refused() -> None:
    with pytest.raises(InputError, match=r"diffusion_mixup.subset: 0.01 of 20 members is none"):
        DiffusionMixup(subset=0.01).exposure(context())


def test_the_images_asked_for_are_those_of_the_hyperparameters() -> None:
    defense = DiffusionMixup(subset=0.1, threshold=0.6, guidance=1.8, per_class=7, labels="agree", calibrate=True)
    assert defense.requires(context()) == {"images": Synthesis(7, 0.6, "agree", 1.8, True)}


def test_members_are_never_said_to_be_trained_on_and_left_out() -> None:
    defense = DiffusionMixup(subset=0.1, source="members", per_class=1)
    assert (defense.exposure(context()) == Exposure.DIRECT).all()
    rows = defense.training_set(context(), {}, members())
    assert set(numbers_of(rows)) == set(range(MEMBERS))


def test_without_a_generator_the_members_are_repeated_to_as_many_rows_and_are_all_trained_on() -> None:
    defense = DiffusionMixup(subset=0.1, source="members", per_class=10)
    assert defense.requires(context()) == {}
    assert (defense.exposure(context()) == Exposure.DIRECT).all()
    rows = defense.training_set(context(), {}, members())
    assert len(rows) == 10 * CLASSES + 2
    counts = np.bincount(numbers_of(rows), minlength=MEMBERS)
    assert counts.min() >= 1
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"subset": 0.0, "pairing": "cross"}, "pairing: cross"),
        ({"subset": 0.5, "pairing": "cross", "source": "members", "per_class": 3}, "pairing: cross"),
        ({"subset": 0.5, "source": "members"}, "give per_class"),
        ({"subset": 1.5}, "diffusion_mixup.subset: "),
        ({"subset": 0.5, "threshold": 1.0}, "diffusion_mixup.threshold: "),
        ({"subset": 0.5, "alpha": -1.0}, "diffusion_mixup.alpha: "),
        ({"subset": 0.5, "guidance": -0.1}, "diffusion_mixup.guidance"),
        ({"subset": 0.5, "per_class": 0}, "diffusion_mixup.per_class"),
        ({"subset": 0.5, "labels": "oracle"}, "diffusion_mixup.labels"),
        ({}, "diffusion_mixup.subset: is missing"),
    ],
)
def test_bad_hyperparameters_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_defense("diffusion_mixup", given)


class Watching(DiffusionMixup):
    """The defense, with every batch noted."""

    def batch(self, run: Any, batch: Batch) -> Batch:
        mixed = super().batch(run, batch)
        SEEN.append((batch, mixed))
        return mixed


SEEN: list[tuple[Batch, Batch]] = []


def batches_of(defense: DiffusionMixup, rows: TrainingSet, images: Images) -> list[tuple[Batch, Batch]]:
    """The batches of one epoch, before and after mixing."""
    SEEN.clear()
    config = small_config(epochs=1)
    plan = Plan(rows, CLASSES, config, Composed((defense,)), 3, frozenset({1}), {"diffusion_mixup/images": images})
    train(small_model(image_rows(4)), plan, MemoryKeeper(), Alone(), torch.device("cpu"))
    return list(SEEN)


def cross_rows() -> tuple[Watching, TrainingSet, Images]:
    defense = Watching(subset=0.25, pairing="cross", alpha=1.0)
    images = generated(12)
    return defense, defense.training_set(context(), {"images": images}, members()), images


def test_cross_pairs_always_mix_a_generated_with_a_real_image() -> None:
    seen = batches_of(*cross_rows())
    assert seen
    for plain, mixed in seen:
        white = plain.inputs[:, 0, 0, 0] == 1.0
        assert white.tolist() == [True, False] * (len(white) // 2)
        weight = (mixed.inputs[0, 0, 0, 0] - plain.inputs[1, 0, 0, 0]) / (1 - plain.inputs[1, 0, 0, 0])
        partner = plain.inputs.reshape(-1, 2, 1, 8, 8).flip(1).reshape(plain.inputs.shape)
        expected = weight * plain.inputs + (1 - weight) * partner
        torch.testing.assert_close(mixed.inputs, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(mixed.targets.sum(dim=1), torch.ones(len(white)))


@dataclass(frozen=True)
class Pair:
    """A group of two; only its sizes count here."""

    rank: int = 0
    world: int = 2


def crossed(generated: int, members: int, world: int, batch_size: int) -> tuple[list[NDArray[np.int64]], ...]:
    """The batches of the first two epochs."""
    run = SimpleNamespace(
        rows=generated + members, seed=3, group=Pair(world=world), config=small_config(batch_size=batch_size)
    )
    sampler = _pairs(generated, run)  # type: ignore[arg-type]
    return tuple(list(sampler(epoch)) for epoch in (0, 1))


@settings(deadline=None)
@given(st.integers(4, 60), st.integers(1, 20), st.sampled_from([1, 2, 3]), st.integers(2, 17))
def test_crossed_batches_are_whole_pairs_for_every_worker(generated: int, real: int, world: int, size: int) -> None:
    for epoch in crossed(generated, real, world, size):
        for numbers in epoch:
            for share in np.array_split(numbers, world):
                assert len(share) % 2 == 0
                assert (share[0::2] < generated).all()
                assert (share[1::2] >= generated).all()


def test_crossed_epochs_take_as_many_steps_as_plain_ones() -> None:
    for epoch in crossed(40, 10, 1, 10):
        assert [len(numbers) for numbers in epoch] == [10] * 5  # as 50 rows in batches of 10


def test_crossed_epochs_pass_over_both_kinds_evenly_and_in_new_orders() -> None:
    epochs = [np.concatenate(epoch) for epoch in crossed(12, 5, 1, 8)]
    assert [len(numbers) for numbers in epochs] == [16, 16]
    generated = [numbers[numbers < 12] for numbers in epochs]
    # Sixteen of twelve: each once, before any a second time.
    first = np.concatenate(generated)[:12]
    assert sorted(first) == list(range(12))
    counts = np.bincount(np.concatenate(epochs), minlength=17)
    assert counts[:12].max() - counts[:12].min() <= 1
    assert counts[12:].max() - counts[12:].min() <= 1
    assert list(generated[0]) != list(generated[1])


def test_alpha_0_mixes_nothing() -> None:
    defense = Watching(subset=0.25, alpha=0.0)
    images = generated(12)
    seen = batches_of(defense, defense.training_set(context(), {"images": images}, members()), images)
    assert all(mixed is plain for plain, mixed in seen)


def test_all_members_and_no_filter_ablations_train_alike_again() -> None:
    """The same plan gives the same weights, cross pairing included: its order comes from the seed."""
    found = []
    for _ in range(2):
        defense, rows, images = cross_rows()
        keeper = MemoryKeeper()
        config = small_config(epochs=2)
        plan = Plan(rows, CLASSES, config, Composed((defense,)), 3, frozenset({2}), {"diffusion_mixup/images": images})
        train(small_model(image_rows(4)), plan, keeper, Alone(), torch.device("cpu"))
        found.append(keeper.weights(2))
    assert equal_bits(*found)


def test_the_probe_takes_the_first_images_of_each_class_alone() -> None:
    probe = GeneratedOnly.of(Synthesis(4, 0.5), taken=2)
    images = replace(generated(12), labels=np.array([0, 0, 0, 1, 2, 2, 1, 1, 0, 2, 1, 0]))
    images = replace(images, inputs=Stored(members(12).inputs))
    rows = probe.training_set(context(), {"images": images}, members())
    assert numbers_of(rows) == [0, 1, 3, 4, 5, 6]
    assert (probe.exposure(context()) == Exposure.INDIRECT).all()
