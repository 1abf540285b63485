"""What every model of a study has in common: the records by fingerprint, the resolved settings, the code versions."""

from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Any

from raymia.config import StudyConfig
from raymia.models import foreign_digest
from raymia.training.defense import Composed, Defense, Stage
from raymia.versions import VERSIONS

TRAINED = frozenset({Stage.DATA, Stage.TRAIN})


@dataclass(frozen=True)
class Ground:
    """config: with nothing left to resolve (precision, model). source_digest: of the user's own model code, or ''.

    fingerprint, records, input_shape ((channels, H, W) or (F,)) and classes describe the data. device: `cpu` or `cuda`.
    """

    config: StudyConfig
    fingerprint: str
    records: int
    input_shape: tuple[int, ...]
    classes: int
    source_digest: str
    device: str

    @property
    def data(self) -> dict[str, Any]:
        """What tells the records from any others: which of them are canaries stands in positions, what is made of them
        here.
        """
        plan = self.config.plan
        canaries = {"canaries": [plan.canary_kind, self.config.seed]} if plan.canaries else {}
        return {**canaries, "data": self.fingerprint}

    @cached_property
    def content(self) -> dict[str, Any]:
        """All of it that changes a trained model."""
        training = self.config.training.model_dump(mode="json", exclude={"checkpoint_every"})
        return {
            **self.data,
            "model": self.config.model.model_dump(mode="json"),
            "training": training,
            "source": self.source_digest,
            "workers": self.config.engine.workers_per_model,
            "threads": self.config.engine.threads_per_worker,
            "device": self.device,
            "versions": [VERSIONS[part] for part in ("records", "models", "training")],
        }


def defense_content(defense: Composed, stages: frozenset[Stage]) -> list[Any]:
    """The defenses as far as they matter to these stages: name, version, the stages' hyperparameters, foreign code.

    A defense with nothing in them is left out: early stopping trains as the undefended model does.
    """
    content = []
    for part in defense.parts:
        values = {name: value for name, value in hyperparameters(part).items() if part.stages[name] in stages}
        if values or (not part.stages and part.name != "none"):
            foreign = foreign_digest(type(part))
            content.append([part.name, part.version, values, *([foreign] if foreign else [])])
    return content


def trained_names(defense: Composed) -> frozenset[str]:
    """The defenses that change the training itself; settings that share them may share their models."""
    return frozenset(name for name, *_ in defense_content(defense, TRAINED))


def hyperparameters(defense: Defense) -> dict[str, Any]:
    """A defense's hyperparameters by name."""
    return {field.name: getattr(defense, field.name) for field in fields(defense)}  # type: ignore[arg-type]


def describe(defense: Composed) -> str:
    """For people, e.g. `mixup alpha=0.3`: the defenses with every hyperparameter that is not at its default."""
    texts = []
    for part in defense.parts:
        defaults = {field.name: field.default for field in fields(part)}  # type: ignore[arg-type]
        given = [
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in hyperparameters(part).items()
            if defaults[name] is MISSING or value != defaults[name]
        ]
        texts.append(" ".join([part.name, *given]))
    return " + ".join(texts)
