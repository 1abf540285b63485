"""Ray on this machine, as a study starts it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from raymia.config import EngineConfig
from raymia.engine.cluster import Cluster, started
from raymia.store import Store


@pytest.fixture(scope="module")
def own_ray() -> Iterator[Cluster]:
    """A cluster of this machine alone, for a module; groups of workers need its dashboard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with started(None, EngineConfig(workers_per_model=2)) as cluster:
            yield cluster


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(str(tmp_path / "artifacts"))


def ask(workshop: Any, *recipes: Any) -> list[Any]:
    """Ask a workshop for several recipes at once; the failures, None where there is none."""
    failures: list[Any] = ray.get([workshop.make.remote(recipe) for recipe in recipes], timeout=300)
    return failures
