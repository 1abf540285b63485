"""Keeps a training's checkpoints and finished states in the store, under its recipe's content key."""

import io
import time
from collections.abc import Callable

import torch

from raymia.recipes.recipe import Bench
from raymia.store import DamagedError, MissingError
from raymia.training.loop import State


class StoreKeeper:
    """A `raymia.training.loop.Keeper`.

    key: the recipe's. artifact: names the state kept after so many epochs (or iterations). total: how many there are.
    """

    def __init__(self, key: str, artifact: Callable[[int], str], total: int, bench: Bench) -> None:
        self.checkpoint = f"checkpoints/{key}"
        self._artifact = artifact
        self._total = total
        self._bench = bench
        self._started = time.monotonic()
        self._spent = 0.0

    def load(self) -> State | None:
        try:
            payload, meta = self._bench.store.read(self.checkpoint)
        except (MissingError, DamagedError):
            return None
        self._spent = float(meta["seconds"])
        return unpack_state(payload)

    def save(self, state: State) -> None:
        self._bench.store.write(self.checkpoint, pack_state(state), {"seconds": self.seconds})

    def snapshot(self, epoch: int, weights: State, history: list[float]) -> None:
        meta = {"seconds": self.seconds, "history": history, "epoch": epoch}
        self._bench.store.write(self._artifact(epoch), pack_state(weights), meta)

    def report(self, epoch: int) -> None:
        self._bench.report(epoch, self._total)

    def done(self) -> None:
        """Forget the checkpoint: what it was kept for is finished."""
        self._bench.store.delete(self.checkpoint)

    @property
    def seconds(self) -> float:
        """Of all workers, those of interrupted sessions included."""
        return self._spent + (time.monotonic() - self._started) * self._bench.group.world


def pack_state(state: State) -> bytes:
    """Tensors, numbers, lists and dicts as bytes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def unpack_state(payload: bytes) -> State:
    """The state back, on the CPU; nothing in it can run code."""
    state: State = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state
