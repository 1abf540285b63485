"""The defenses, one file each. Others come by the entry-point group `raymia.defenses`, without an edit here."""

from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from raymia.config import suggestion
from raymia.defenses.custom import CustomTraining
from raymia.defenses.dropout import Dropout
from raymia.defenses.early_stopping import EarlyStopping
from raymia.defenses.label_smoothing import LabelSmoothing
from raymia.defenses.mixup import Mixup
from raymia.defenses.none import Undefended
from raymia.defenses.relaxloss import RelaxLoss
from raymia.errors import InputError
from raymia.training.defense import Defense

__all__ = [
    "CustomTraining",
    "Dropout",
    "EarlyStopping",
    "LabelSmoothing",
    "Mixup",
    "RelaxLoss",
    "Undefended",
    "build_defense",
    "defense_named",
]

_BUILT_IN: tuple[type[Defense], ...] = (
    Undefended,
    Mixup,
    LabelSmoothing,
    EarlyStopping,
    RelaxLoss,
    Dropout,
    CustomTraining,
)


def defense_named(name: str) -> type[Defense]:
    """The defense's class. Raises InputError with the nearest name."""
    known = {defense.name: defense for defense in _BUILT_IN}
    if name in known:
        return known[name]
    others = {point.name: point for point in entry_points(group="raymia.defenses")}
    if name in others:
        loaded: type[Defense] = others[name].load()
        return loaded
    raise InputError(f"unknown defense {name!r}: {suggestion(name, [*known, *others])}")


def build_defense(name: str, hyperparameters: Mapping[str, Any]) -> Defense:
    """A defense with checked hyperparameters. Raises InputError that names the hyperparameter and what it takes."""
    defense = defense_named(name)
    known = [field.name for field in fields(defense)]  # type: ignore[arg-type]
    for given in hyperparameters:
        if given not in known:
            what = suggestion(given, known) if known else "it has none"
            raise InputError(f"unknown hyperparameter {name}.{given}: {what}")
    try:
        return defense(**hyperparameters)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "missing":
            raise InputError(f"{name}.{where}: is missing; give it a value in the space") from None
        message = problem["msg"][0].lower() + problem["msg"][1:]
        raise InputError(f"{name}.{where}: {message}, got {problem['input']!r}") from None
