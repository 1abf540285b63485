"""Tiny studies on scikit-learn's digits."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymia.config import StudyConfig, build_config
from raymia.models import model_source_digest
from raymia.recipes.blueprint import Blueprint
from raymia.recipes.ground import Ground
from raymia.recipes.recipe import Bench
from raymia.records import Records, load_records
from raymia.space import Setting, Space
from raymia.space_files import parse_space
from raymia.store import Store

TINY: dict[str, Any] = {
    "plan.part_size": 40,
    "plan.targets": 2,
    "training.epochs": 2,
    "training.precision": "fp32",
    "training.checkpoint_every": 1,
    "model.name": "cnn",
    "model.options.widths": [4, 8, 8],
    "attacks": ["loss", "entropy"],
}


@pytest.fixture(scope="session")
def digits() -> Records:
    """400 digits, their arrays write-protected as those of Ray's object store are."""
    records = load_records("digits", limit=400)
    for array in (records.inputs, records.labels, records.ids):
        array.setflags(write=False)
    return records


@pytest.fixture(scope="session")
def noise(digits: Records) -> Records:
    """Digits with labels drawn at random: all that a model can learn of them is by heart."""
    labels = np.random.default_rng(0).integers(0, 10, len(digits))
    return replace(digits, labels=labels)


def tiny_config(changes: dict[str, Any] | None = None) -> StudyConfig:
    """The digits preset made tiny, with dotted changes."""
    return build_config("digits", TINY | (changes or {}))


def ground_of(records: Records, changes: dict[str, Any] | None = None) -> Ground:
    """What a study of these records has in common."""
    config = tiny_config(changes)
    return Ground(
        config=config,
        fingerprint=records.fingerprint,
        records=len(records),
        input_shape=(1, 8, 8),
        classes=10,
        source_digest=model_source_digest(config.model.name),
        device="cpu",
    )


def space_of(*entries: Any, name: str = "own") -> Space:
    """A grid written down here."""
    return parse_space({"settings": list(entries)}, Path(f"{name}.yaml"))


def study_of(records: Records, *entries: Any, **changes: Any) -> tuple[Blueprint, list[Setting]]:
    """The blueprint of a study over these entries, and its settings. changes: `training__epochs=3`."""
    space = space_of(*(entries or ({"none": None},)))
    given = {name.replace("__", "."): value for name, value in changes.items()}
    ground = ground_of(records, {"plan.reserve": space.needs_reserve, **given})
    blueprint = Blueprint(ground, space.stop_epochs(ground.config.training.epochs))
    return blueprint, space.settings(0)


@dataclass(frozen=True)
class CountingStore(Store):
    """A store that says what was written to it."""

    written: list[str] = field(default_factory=list, compare=False)

    def write(self, name: str, payload: bytes, meta: dict[str, Any]) -> None:
        self.written.append(name)
        super().write(name, payload, meta)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(str(tmp_path / "artifacts"))


@pytest.fixture
def bench(digits: Records, store: CountingStore) -> Iterator[Bench]:
    """The digits on a bench; the records must be as they were afterwards."""
    before = [array.tobytes() for array in (digits.inputs, digits.labels, digits.ids)]
    yield Bench(digits, store)
    assert [array.tobytes() for array in (digits.inputs, digits.labels, digits.ids)] == before
