"""The order of crossed pairs, for sets of any size: even passes over both kinds, as many steps as without crossing."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from raymia.defenses.diffusion_mixup import _in_turn, _pairs
from raymia.training.run import Alone, Sampler, shuffled_batches
from tests.training.conftest import small_config

EPOCHS = 4

sizes = st.integers(1, 50)
batch_sizes = st.integers(2, 17)


class Several(Alone):
    """A group of which only the size counts here."""

    def __init__(self, world: int) -> None:
        self.world = world


def sampler(generated: int, real: int, batch_size: int, world: int = 1, seed: int = 3) -> Sampler:
    run = SimpleNamespace(
        rows=generated + real, seed=seed, group=Several(world), config=small_config(batch_size=batch_size)
    )
    return _pairs(generated, run)  # type: ignore[arg-type]


def epoch_of(given: Sampler, epoch: int) -> NDArray[np.int64]:
    """All row numbers of an epoch, generated and real ones in turn."""
    return np.concatenate([*given(epoch), np.zeros(0, dtype=np.int64)])


def spread(numbers: NDArray[np.int64], rows: int) -> int:
    counts = np.bincount(numbers, minlength=rows)
    assert len(counts) == rows
    return int(counts.max() - counts.min())


@settings(deadline=None)
@given(sizes, sizes, batch_sizes)
def test_consecutive_epochs_are_even_passes_over_each_kind(generated: int, real: int, size: int) -> None:
    """From the first epoch on nobody is taken twice more than another: each permutation is used up before the next."""
    given = sampler(generated, real, size)
    taken = np.zeros(0, dtype=np.int64)
    for epoch in range(EPOCHS):
        numbers = epoch_of(given, epoch)
        assert len(numbers) == 2 * ((generated + real) // 2)
        # An epoch may end one permutation and begin the next.
        assert spread(numbers[0::2], generated) <= 2
        assert spread(numbers[1::2] - generated, real) <= 2
        taken = np.concatenate([taken, numbers])
        assert spread(taken[0::2], generated) <= 1
        assert spread(taken[1::2] - generated, real) <= 1


@settings(deadline=None)
@given(sizes, sizes, batch_sizes, st.sampled_from([1, 2, 3]))
def test_an_epoch_alone_is_what_it_is_after_the_others(generated: int, real: int, size: int, world: int) -> None:
    gone_on = sampler(generated, real, size, world)
    for epoch in range(EPOCHS):
        found = [numbers.tolist() for numbers in gone_on(epoch)]
    alone = [numbers.tolist() for numbers in sampler(generated, real, size, world)(EPOCHS - 1)]
    again = [numbers.tolist() for numbers in gone_on(EPOCHS - 1)]
    assert alone == found == again


@settings(deadline=None)
@given(sizes, sizes, st.integers(1, 6), st.sampled_from([1, 2, 3]))
def test_crossing_takes_as_many_steps_of_the_same_sizes(generated: int, real: int, pairs: int, world: int) -> None:
    """Where the workers can divide the batch into pairs; the last one may leave out what they could not divide."""
    size = 2 * world * pairs
    for epoch in range(EPOCHS):
        crossed = [len(numbers) for numbers in sampler(generated, real, size, world)(epoch)]
        plain = [len(numbers) for numbers in shuffled_batches(generated + real, size, 3, Several(world))(epoch)]
        assert len(crossed) == len(plain)
        assert crossed[:-1] == plain[:-1]
        assert [last - last % (2 * world) for last in plain[-1:]] == crossed[-1:]


@settings(deadline=None)
@given(sizes, sizes, batch_sizes, st.sampled_from([1, 2, 3]))
def test_no_batch_is_larger_than_asked_but_for_a_pair_a_worker(
    generated: int, real: int, size: int, world: int
) -> None:
    for numbers in sampler(generated, real, size, world)(0):
        assert 0 < len(numbers) <= max(size, 2 * world)
        assert len(numbers) % (2 * world) == 0


def test_an_endless_row_of_permutations_may_be_read_anywhere() -> None:
    whole = _in_turn(7, np.arange(35), 3, "order")
    for turn in range(5):
        assert sorted(whole[7 * turn : 7 * turn + 7]) == list(range(7))
    assert len({tuple(whole[7 * turn : 7 * turn + 7]) for turn in range(5)}) == 5
    for first in range(35):
        for last in range(first, 35):
            np.testing.assert_array_equal(_in_turn(7, np.arange(first, last + 1), 3, "order"), whole[first : last + 1])


def test_the_kinds_have_orders_of_their_own_and_so_has_each_seed() -> None:
    """Else a generated row would meet the same real one in every pass, and in every model."""
    met = epoch_of(sampler(20, 20, 8), 0).reshape(-1, 2)
    assert len(set(met[:, 1] - met[:, 0])) > 5
    again = epoch_of(sampler(20, 20, 8), 1).reshape(-1, 2)
    assert len({tuple(pair) for pair in met} & {tuple(pair) for pair in again}) < 5
    assert epoch_of(sampler(20, 20, 8, seed=4), 0).tolist() != met.reshape(-1).tolist()
