"""The defenses, one file each. Others come by the entry-point group `raymia.defenses`, without an edit here."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from raymia.defenses.adversarial_regularization import AdversarialRegularization
from raymia.defenses.awp import AWP
from raymia.defenses.confidence_penalty import ConfidencePenalty
from raymia.defenses.custom import CustomTraining
from raymia.defenses.demem import DeMem
from raymia.defenses.diffusion_mixup import DiffusionMixup, GeneratedOnly
from raymia.defenses.distillation import Distillation
from raymia.defenses.dmp import DMP
from raymia.defenses.dp_sgd import DPSGD, spent_epsilon
from raymia.defenses.dropout import Dropout
from raymia.defenses.early_stopping import EarlyStopping
from raymia.defenses.hamp import HAMP
from raymia.defenses.label_smoothing import LabelSmoothing
from raymia.defenses.mart import MART
from raymia.defenses.memguard import MemGuard
from raymia.defenses.mixup import Mixup
from raymia.defenses.none import Undefended
from raymia.defenses.pgd_at import PGDAT
from raymia.defenses.relaxloss import RelaxLoss
from raymia.defenses.selena import Selena
from raymia.defenses.trades import TRADES
from raymia.defenses.trades_awp import TRADESAWP
from raymia.errors import InputError
from raymia.training.defense import Defense
from raymia.yaml_files import suggestion

__all__ = [
    "AWP",
    "DMP",
    "DPSGD",
    "HAMP",
    "MART",
    "PGDAT",
    "TRADES",
    "TRADESAWP",
    "AdversarialRegularization",
    "ConfidencePenalty",
    "CustomTraining",
    "DeMem",
    "DiffusionMixup",
    "Distillation",
    "Dropout",
    "EarlyStopping",
    "GeneratedOnly",
    "LabelSmoothing",
    "MemGuard",
    "Mixup",
    "RelaxLoss",
    "Selena",
    "Undefended",
    "build_defense",
    "defense_named",
    "spent_epsilon",
]

_BUILT_IN: tuple[type[Defense], ...] = (
    Undefended,
    Mixup,
    LabelSmoothing,
    EarlyStopping,
    RelaxLoss,
    Dropout,
    DiffusionMixup,
    DPSGD,
    ConfidencePenalty,
    AdversarialRegularization,
    Distillation,
    DMP,
    MemGuard,
    HAMP,
    Selena,
    PGDAT,
    TRADES,
    MART,
    AWP,
    TRADESAWP,
    DeMem,
    CustomTraining,
)


def defense_named(name: str) -> type[Defense]:
    """The defense's class. Raises InputError with the nearest name, or with what is wrong with another package's."""
    known = {defense.name: defense for defense in _BUILT_IN}
    if name in known:
        return known[name]
    others = {point.name: point for point in entry_points(group="raymia.defenses")}
    if name in others:
        return _loaded(others[name])
    raise InputError(f"unknown defense {name!r}: {suggestion(name, [*known, *others])}")


def _loaded(point: EntryPoint) -> type[Defense]:
    what = f"defense {point.name!r} ({point.value})"
    try:
        defense = point.load()
    except Exception as error:  # whatever a foreign module raises while it is imported
        reason = " ".join(str(error).split())
        raise InputError(f"{what} cannot be loaded, repair or uninstall its package: {reason}") from error
    if not _is_defense(defense) or defense.name != point.name:
        raise InputError(
            f"{what} is no defense of that name: its entry point must give a frozen dataclass derived from "
            f"raymia.training.defense.Defense whose name is {point.name!r}"
        )
    for field in fields(defense):
        if field.name not in defense.stages:
            raise InputError(f"{what} does not say which stage {field.name!r} belongs to: add it to its stages")
    found: type[Defense] = defense
    return found


def _is_defense(candidate: Any) -> bool:
    if not (isinstance(candidate, type) and issubclass(candidate, Defense) and is_dataclass(candidate)):
        return False
    return hasattr(candidate, "name") and candidate.__dataclass_params__.frozen


def build_defense(name: str, hyperparameters: Mapping[str, Any]) -> Defense:
    """A defense with checked hyperparameters. Raises InputError that names the hyperparameter and what it takes."""
    defense = defense_named(name)
    known = [field.name for field in fields(defense)]  # type: ignore[arg-type]
    for given in hyperparameters:
        if given not in known:
            what = suggestion(given, known) if known else "it has none"
            raise InputError(f"unknown hyperparameter {name}.{given}: {what}")
    try:
        built = defense(**hyperparameters)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        where = ".".join([name, *(str(part) for part in problem["loc"])])
        if problem["type"] == "missing":
            raise InputError(f"{where}: is missing; give it a value in the space") from None
        message = problem["msg"][0].lower() + problem["msg"][1:]
        raise InputError(f"{where}: {message}, got {problem['input']!r}") from None
    except (TypeError, ValueError) as error:  # a plain dataclass of another package
        raise InputError(f"{name}: {' '.join(str(error).split())}") from None
    for field in known:
        value = getattr(built, field)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{name}.{field}: must be a finite number, got {value}")
    return built
