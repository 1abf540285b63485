"""Arrays of an audit as a user would hand them in, and the command run on them."""

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raymia.audit import audit
from raymia.commands import guarded
from tests.attacks.worlds import World, make_world

Arrays = dict[str, NDArray[Any]]


def run(*arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command in this process."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = guarded(lambda: audit.main(list(arguments), standalone_mode=False, prog_name="raymia audit"))
    return code, output.getvalue(), errors.getvalue()


def verdict(path: Path = Path("audit.json")) -> dict[str, Any]:
    """What the command wrote."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def write(arrays: Mapping[str, NDArray[Any]], path: Path = Path("signals.npz")) -> str:
    """The arrays as an npz file; its name."""
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def arrays_of(world: World) -> Arrays:
    """All that a world has, in arrays of its own: worlds are shared between tests."""
    target, view = world.target, world.view
    (shadow,) = view.shadows
    assert target.references is not None
    assert view.population is not None
    assert view.population.references is not None
    arrays: Arrays = {
        "target_logits": target.logits_NQC,
        "labels": target.labels_N,
        "member": world.member_N,
        "reference_logits": np.stack([one[:] for one in target.references.answers]),
        "reference_member": target.references.in_MN,
        "shadow_logits": shadow.signals.logits_NQC,
        "shadow_labels": shadow.signals.labels_N,
        "shadow_member": shadow.member_N,
        "population_logits": view.population.logits_NQC,
        "population_labels": view.population.labels_N,
        "population_reference_logits": np.stack([one[:] for one in view.population.references.answers]),
    }
    return {name: array.copy() for name, array in arrays.items()}


def whole(seed: int = 1, edge: float = 2.0, records: int = 100, **options: int) -> Arrays:
    """Everything that an audit can take."""
    return arrays_of(make_world(seed, edge, records=records, **options))


def target_only(arrays: Arrays) -> Arrays:
    """The target's answers alone."""
    return {name: arrays[name] for name in ("target_logits", "labels", "member")}


def of_confidences(inside: list[float], outside: list[float]) -> Arrays:
    """Two classes, all records of class 0, with these confidences phi of the members and of the non-members."""
    phi = np.array([*inside, *outside], dtype=np.float32)
    return {
        "target_logits": np.stack([phi, np.zeros_like(phi)], axis=1),
        "labels": np.zeros(len(phi), dtype=np.int64),
        "member": np.arange(len(phi)) < len(inside),
    }
