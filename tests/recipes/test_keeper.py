"""What a training has taken, over all of its workers and sessions."""

import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from raymia.recipes.keeper import StoreKeeper
from raymia.recipes.recipe import Bench
from raymia.recipes.rehearsal import OneOf


@pytest.mark.parametrize("world", [1, 4])
def test_seconds_are_those_of_all_workers_over_all_sessions(
    world: int, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    bench = replace(bench, group=OneOf(world))

    def keeper() -> StoreKeeper:
        return StoreKeeper("key", lambda epoch: f"models/key/epoch-{epoch}", 30, bench)

    def meta(name: str) -> dict[str, Any]:
        return bench.store.meta(name)

    first = keeper()
    assert first.load() is None
    clock[0] += 10
    first.save({"epoch": 1})
    assert meta("checkpoints/key")["seconds"] == 10 * world
    # Ten seconds more are lost with the session; what is resumed begins at the checkpoint.
    clock[0] += 10
    for session in range(3):
        resumed = keeper()
        state = resumed.load()
        assert state == {"epoch": session + 1}
        clock[0] += 5
        resumed.save({"epoch": session + 2})
        assert meta("checkpoints/key")["seconds"] == (10 + 5 * (session + 1)) * world
    clock[0] += 1
    resumed.snapshot(30, {"weight": torch.zeros(1)}, [0.5])
    assert meta("models/key/epoch-30")["seconds"] == 26 * world
    resumed.done()
    assert keeper().load() is None
