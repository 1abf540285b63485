"""What a defense is: everything it may touch of a model's making, and no more.

The training loop knows no defense by name. A defense overrides the hooks it needs; each hook gets what the hooks
before it made, so defenses that touch different points compose in the order they are written.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raymia.errors import InputError
from raymia.models import Classifier
from raymia.records.plan import Exposure

if TYPE_CHECKING:
    from raymia.diffusion.synthesis import Synthesis
    from raymia.training.rows import Inputs
    from raymia.training.run import Run


class Stage(StrEnum):
    """What a hyperparameter changes: a change in a later stage never redoes an earlier one.

    FIT is of what is fitted to the finished model for its release (`Defense.fit`).
    """

    DATA = "data"
    TRAIN = "train"
    SELECT = "select"
    FIT = "fit"
    RELEASE = "release"


@dataclass(frozen=True)
class Context:
    """What a defense knows before training.

    positions: int64[n], the records given to this model. reserve: int64[r], the defender's further records (empty
    unless a defense of the study needs them). classes: K. seed: this model's own seed, for the defense's draws.
    For `requires`: model: (name, positions, defenses) -> the recipe of another model of the study's kind; synthetic:
    what is asked for -> the recipe of images made by a generator trained on `positions`. workers: that train one model.
    """

    positions: NDArray[np.int64]
    reserve: NDArray[np.int64]
    classes: int
    seed: int
    model: Callable[[str, NDArray[np.int64], tuple["Defense", ...]], Any]
    synthetic: Callable[["Synthesis"], Any]
    workers: int = 1

    def reserve_for(self, defense: str) -> NDArray[np.int64]:
        """The reserve. Raises InputError where a defense that cannot do without was given none."""
        if not len(self.reserve):
            raise InputError(f"{defense}: needs a reserve of records that no model trains on, and was given none")
        return self.reserve


@dataclass(frozen=True)
class TrainingSet:
    """What the loop draws batches from.

    inputs: uint8[n, H, W, channels] or float32[n, F]; images that may not fit in memory can be stored ones (see
    `raymia.training.rows`). labels: int64[n]. targets: float32[n, K] what the loss pulls toward (None: the one-hot
    labels).
    """

    inputs: "Inputs"
    labels: NDArray[np.int64]
    targets: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Batch:
    """One step's records. inputs: float[B, ...] in pixel units [0, 1]. labels: int64[B]. targets: float[B, K]."""

    inputs: Tensor
    labels: Tensor
    targets: Tensor


@dataclass
class Losses:
    """terms: named per-sample losses [B] (`ce` is the cross entropy to the targets). objective: the scalar to minimize.

    logits: [B, K] they come from. penalties: named scalars added to the objective.
    """

    terms: dict[str, Tensor]
    objective: Tensor
    logits: Tensor
    penalties: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """The scalar that is differentiated."""
        return self.objective + sum(self.penalties.values(), self.objective.new_zeros(()))


Answers = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Positions of records -> float32[n, K], a model's logits."""


class Defense:
    """A defense that does nothing: the hooks, and what each is for. Defenses are frozen dataclasses of hyperparameters.

    name: the name in spaces and tables. version: raised when the source changes what it does. stages: the stage of each
    hyperparameter. per_sample: couples no samples and takes nothing else from the members, so DP-SGD may compose with
    it. demands_per_sample: composes with such defenses alone. sole: hooks that no second defense may also replace.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    stages: ClassVar[Mapping[str, Stage]] = {}
    per_sample: ClassVar[bool] = False
    demands_per_sample: ClassVar[bool] = False
    sole: ClassVar[frozenset[str]] = frozenset()

    @property
    def needs_reserve(self) -> bool:
        """Whether it wants records of its own, `context.reserve`: then the plan has them for every setting of a study.

        `training_set` and `run.inputs` find them among the required artifacts, as a TrainingSet named `reserve`.
        """
        return False

    def requires(self, context: Context) -> dict[str, Any]:
        """Recipes of artifacts to build first (teachers, generators, sub-models), by name.

        Also where to refuse, by InputError, what cannot work: this is asked before anything is trained.
        """
        return {}

    def exposure(self, context: Context) -> NDArray[np.int8]:
        """int8[n], how the model meets each of `context.positions` (`raymia.records.plan.Exposure`): 2 trains on it, 1
        meets it only through a required artifact. A draw of the context's seed and nothing else: known before training.
        """
        return np.full(len(context.positions), Exposure.DIRECT, dtype=np.int8)

    def architecture(self, model: Classifier) -> Classifier:
        """Change the untrained model's layers, as DP-SGD does to batch normalization; the kept one loads into them."""
        return model

    def training_set(self, context: Context, inputs: Mapping[str, Any], rows: TrainingSet) -> TrainingSet:
        """The records and targets to train on, from the plain ones. inputs: the built artifacts of `requires`."""
        return rows

    def row_count(self, context: Context, required: Mapping[str, Any], rows: int) -> int:
        """How many rows `training_set` will have, of so many plain ones, told before anything is made.

        required: the recipes of `requires`. Only a study's price depends on it.
        """
        return rows

    def prepare(self, run: "Run") -> None:
        """Wrap or replace the run's model, optimizer or sampler before the first step."""

    def batch(self, run: "Run", batch: Batch) -> Batch:
        """Change a batch: mix it, make it adversarial."""
        return batch

    def losses(self, run: "Run", batch: Batch, inner: Callable[[], Losses]) -> Losses:
        """The losses of a batch. `inner()` gives those of the defenses before it, at last the plain cross entropy."""
        return inner()

    def update(self, run: "Run", batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
        """One optimizer step; returns the loss (a scalar). `inner()` is the plain step."""
        return inner()

    def select(self, epochs: int) -> int:
        """The epoch, of `epochs`, whose model is released."""
        return epochs

    def fit(self, context: Context, answers: Answers) -> dict[str, Tensor]:
        """What `release` needs and only the finished model can give, an attack net say: made once for each kept model.

        answers: what the model itself answers on records, by their positions. Of the hyperparameters only those of
        stage FIT and before may matter.
        """
        return {}

    def release(self, model: nn.Module, inputs: Tensor, fitted: Mapping[str, Tensor]) -> Tensor:
        """How the finished model answers: logits [B, K]. fitted: what `fit` gave, on the model's device."""
        logits: Tensor = model(inputs)
        return logits


@dataclass(frozen=True)
class Composed:
    """Several defenses as one; hooks run in the order written. Raises InputError where one would undo another."""

    parts: tuple[Defense, ...]

    def __post_init__(self) -> None:
        self._check_sole()
        self._check_own_training()
        self._check_order()
        self._check_per_sample()

    def _check_sole(self) -> None:
        taken: dict[str, str] = {}
        for part in self.parts:
            # Only one part's answers are given, whatever it says of itself.
            for hook in part.sole | ({"release"} if overrides(part, "release") else set()):
                if hook in taken:
                    raise InputError(
                        f"defenses {taken[hook]} and {part.name} both replace {hook!r} and cannot be combined: keep one"
                    )
                taken[hook] = part.name

    def _check_own_training(self) -> None:
        others = [part.name for part in self.parts if part.name != "none" and "training" not in part.sole]
        for part in self.parts:
            if "training" in part.sole and others:
                raise InputError(
                    f"defenses {part.name} and {others[0]} cannot be combined: {part.name} trains by a function of its "
                    f"own, which {others[0]} does not reach; leave one out"
                )

    def _check_order(self) -> None:
        """What makes the training set anew would drop the targets and the losses of the parts before it."""
        for place, part in enumerate(self.parts):
            for earlier in self.parts[:place] if "training_set" in part.sole else ():
                if overrides(earlier, "training_set") or overrides(earlier, "losses"):
                    raise InputError(
                        f"defenses {earlier.name} and {part.name}: {part.name} makes the training set and would undo "
                        f"{earlier.name}; write {part.name} before it"
                    )

    def _check_per_sample(self) -> None:
        for demanding in self.parts:
            for other in self.parts:
                if demanding.demands_per_sample and not other.per_sample:
                    raise InputError(
                        f"defenses {demanding.name} and {other.name} cannot be combined: {demanding.name} bounds what "
                        f"each record does by itself, and {other.name} couples records or takes more from the members "
                        "than their gradients; leave one out"
                    )

    def requires(self, context: Context) -> dict[str, Any]:
        """Every part's recipes, named `<defense>/<name>`."""
        return {f"{part.name}/{name}": recipe for part in self.parts for name, recipe in part.requires(context).items()}

    def exposure(self, context: Context) -> NDArray[np.int8]:
        """The least exposure that any part leaves a record."""
        full = Defense().exposure(context)
        return np.minimum.reduce([full, *(part.exposure(context) for part in self.parts)])

    def architecture(self, model: Classifier) -> Classifier:
        """Every part's change to the layers."""
        for part in self.parts:
            model = part.architecture(model)
        return model

    def training_set(self, context: Context, inputs: Mapping[str, Any], rows: TrainingSet) -> TrainingSet:
        """Each part's training set made from the one before."""
        for part in self.parts:
            rows = part.training_set(context, _own(part, inputs), rows)
        return rows

    def row_count(self, context: Context, required: Mapping[str, Any], rows: int) -> int:
        """The rows of that set, told before it is made."""
        for part in self.parts:
            rows = part.row_count(context, _own(part, required), rows)
        return rows

    def prepare(self, run: "Run") -> None:
        """Every part's preparation."""
        for part in self.parts:
            part.prepare(run)

    def batch(self, run: "Run", batch: Batch) -> Batch:
        """Every part's change to the batch."""
        for part in self.parts:
            batch = part.batch(run, batch)
        return batch

    def losses(self, run: "Run", batch: Batch, inner: Callable[[], Losses]) -> Losses:
        """The outermost part's losses, which may ask for those inside."""
        for part in self.parts:
            inner = _bind(part.losses, run, batch, inner)
        return inner()

    def update(self, run: "Run", batch: Batch, inner: Callable[[], Tensor]) -> Tensor:
        """The outermost part's step."""
        for part in self.parts:
            inner = _bind(part.update, run, batch, inner)
        return inner()

    def select(self, epochs: int) -> int:
        """The earliest epoch that any part asks for."""
        return min((part.select(epochs) for part in self.parts), default=epochs)

    @property
    def fitting(self) -> tuple[Defense, ...]:
        """The parts that fit something to the finished model."""
        return tuple(part for part in self.parts if overrides(part, "fit"))

    def fit(self, context: Context, answers: Answers) -> dict[str, dict[str, Tensor]]:
        """What each of them fits, by its name."""
        return {part.name: part.fit(context, answers) for part in self.fitting}

    def release(self, model: nn.Module, inputs: Tensor, fitted: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
        """The model's answers as the part that changes them gives them. fitted: as `fit` gave it."""
        for part in self.parts:
            if overrides(part, "release"):
                return part.release(model, inputs, fitted.get(part.name, {}))
        return Defense().release(model, inputs, {})


def overrides(part: Defense, hook: str) -> bool:
    """Whether it has that hook of its own."""
    return getattr(type(part), hook) is not getattr(Defense, hook)


def _own(part: Defense, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A part's own of what is named `<defense>/<name>`, by name."""
    own = f"{part.name}/"
    return {name.removeprefix(own): value for name, value in inputs.items() if name.startswith(own)}


def _bind(hook: Callable[..., Any], run: "Run", batch: Batch, inner: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: hook(run, batch, inner)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy in nats of logits [B, K] to target distributions [B, K], per sample [B], in float32."""
    return -(targets * torch.log_softmax(logits.float(), dim=1)).sum(dim=1)
