"""Random streams of queries: the query's alone."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from raymia.training.query import query_streams


def draws(inputs: torch.Tensor, key: int = 0) -> list[float]:
    return [stream.random() for stream in query_streams(inputs, key)]


@given(st.permutations(range(5)), st.integers(-(2**63), 2**63 - 1))
def test_a_record_draws_the_same_in_whatever_batch(order: list[int], key: int) -> None:
    batch = torch.rand(5, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    alone = [draws(batch[[number]], key)[0] for number in order]
    assert draws(batch[order], key) == alone
    assert len(set(alone)) == 5


def test_the_layout_in_memory_does_not_matter_and_the_last_bit_does() -> None:
    batch = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    assert draws(batch.contiguous(memory_format=torch.channels_last)) == draws(batch)
    changed = batch.clone()
    changed[0, 0, 0, 0] = torch.nextafter(changed[0, 0, 0, 0], torch.tensor(2.0))
    assert draws(changed)[0] != draws(batch)[0]
    assert draws(changed)[1:] == draws(batch)[1:]


def test_another_key_draws_otherwise() -> None:
    batch = torch.rand(4, 6, generator=torch.Generator().manual_seed(2))
    assert not set(draws(batch, 1)) & set(draws(batch, 2))
