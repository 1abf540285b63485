"""Signals: what a model answers on the records an attack will look at. Later stages see no model, only these."""

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from raymia.adversarial import pgd_20
from raymia.attacks.protocol import Signals
from raymia.keys import array_digest, content_key
from raymia.recipes.answers import StoredAnswers, pack_answers, unpack_answers
from raymia.recipes.ground import Ground, defense_content
from raymia.recipes.recipe import Bench, Recipe
from raymia.recipes.trained import TrainedModel
from raymia.seeds import generator
from raymia.store import Store
from raymia.training.defense import Composed, Stage
from raymia.versions import VERSIONS


class AnsweringRecipe(Recipe, Protocol):
    """A recipe whose artifact is a model. stream: the names of its random streams, the same under every defense."""

    @property
    def stream(self) -> tuple[str | int, ...]: ...

    @property
    def positions(self) -> NDArray[np.int64]: ...

    @property
    def exposure(self) -> NDArray[np.int8]: ...

    @property
    def ground(self) -> Ground: ...

    @property
    def defense(self) -> Composed: ...

    def answers_need(self, epoch: int) -> Sequence[Recipe]:
        """What must be made, besides the model, before it can answer."""
        ...

    def answer(self, bench: Bench, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32[N, Q, K], to the study's queries."""
        ...

    def open(self, store: Store, device: torch.device, epoch: int) -> TrainedModel:
        """The model as it is released. Raises InputError where it is not kept."""
        ...

    def bare(self, store: Store, device: torch.device, epoch: int) -> TrainedModel:
        """The model itself, whatever its release makes of the answers. Raises InputError where it is not kept."""
        ...

    def history(self, store: Store, epoch: int) -> list[float]: ...


@dataclass(frozen=True, eq=False)
class SignalsRecipe:
    """The answers of one model, as it was after `epoch` epochs, to the study's queries on records at `positions`
    (int64[N]); crafted: to the model's own adversarial examples of them instead (Song et al. 2019, arXiv 1905.10291).
    """

    model: AnsweringRecipe
    epoch: int
    positions: NDArray[np.int64]
    crafted: bool = False

    kind = "signals"
    workers = 1
    threads = 1

    @cached_property
    def key(self) -> str:
        content = {
            "model": self.model.key,
            "epoch": self.epoch,
            "positions": array_digest(self.positions),
            "queries": self._queries,
            "release": defense_content(self.model.defense, frozenset({Stage.RELEASE})),
            "version": VERSIONS["signals"],
        }
        if fitted := [recipe.key for recipe in self.model.answers_need(self.epoch)]:
            content["fitted"] = fitted
        return content_key("signals", content)

    @property
    def _queries(self) -> list[Any]:
        config = self.model.ground.config
        if not self.crafted:
            return list(config.queries)
        ball = config.robustness
        return ["adversarial", ball.norm, ball.epsilon, ball.step_size, config.seed]

    @property
    def label(self) -> str:
        return f"{'adversarial ' if self.crafted else ''}signals of {self.model.label}"

    @property
    def gpus(self) -> float:
        return self.model.gpus

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"signals/{self.key}",)

    def requires(self) -> Sequence[Recipe]:
        return (self.model, *self.model.answers_need(self.epoch))

    def build(self, bench: Bench) -> None:
        started = time.monotonic()
        labels_N = bench.records.labels[self.positions]
        answer = self._adversarial if self.crafted else self.model.answer
        payload, meta = pack_answers(answer(bench, self.epoch, self.positions), labels_N)
        bench.store.write(self.artifacts[0], payload, {**meta, "seconds": time.monotonic() - started})

    def _adversarial(self, bench: Bench, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        config, records = self.model.ground.config, bench.records
        # All models are asked from the same starts: what differs in their answers is theirs.
        rng = generator(config.seed, "adversarial queries")
        model = self.model.open(bench.store, bench.device, epoch)
        inputs, labels_N = records.inputs[positions], records.labels[positions]
        return model.adversarial_logits(inputs, labels_N, pgd_20(config.robustness), rng)[:, None]

    def open(self, store: Store) -> Signals:
        """Read the signals back."""
        return Signals(*unpack_answers(*store.read(self.artifacts[0])), adversarial=self.crafted)

    def stored(self, store: Store) -> StoredAnswers:
        """The answers left in the store, to be read in parts."""
        return StoredAnswers.open(store, self.artifacts[0])


@dataclass(frozen=True, eq=False)
class GradientNormRecipe:
    """The norm of the loss's gradient by the weights, for the records of some signals, on the same model."""

    signals: SignalsRecipe

    kind = "signals"
    workers = 1
    threads = 1

    @cached_property
    def key(self) -> str:
        # The gradient is of the model itself, whatever its release makes of the answers.
        signals = self.signals
        content = {
            "model": signals.model.key,
            "epoch": signals.epoch,
            "positions": array_digest(signals.positions),
            "version": VERSIONS["signals"],
        }
        return content_key("gradient norms", content)

    @property
    def label(self) -> str:
        return f"gradient norms of {self.signals.model.label}"

    @property
    def gpus(self) -> float:
        return self.signals.gpus

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (f"signals/{self.key}",)

    def requires(self) -> Sequence[Recipe]:
        return (self.signals.model,)

    def build(self, bench: Bench) -> None:
        started = time.monotonic()
        signals, records = self.signals, bench.records
        model = signals.model.bare(bench.store, bench.device, signals.epoch)
        norms_N = model.gradient_norms(records.inputs[signals.positions], records.labels[signals.positions])
        payload = pack_arrays(gradient_norm_N=norms_N)
        bench.store.write(self.artifacts[0], payload, {"seconds": time.monotonic() - started})

    def open(self, store: Store) -> NDArray[np.float64]:
        """float64[N], in the order of the signals' positions."""
        return unpack_arrays(store.read(self.artifacts[0])[0])["gradient_norm_N"]


def pack_arrays(**arrays: NDArray[Any]) -> bytes:
    """Arrays as the bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack_arrays(payload: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file, never unpickled."""
    with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
