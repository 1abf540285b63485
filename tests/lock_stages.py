"""`python -m tests.lock_stages`: write down a digest of each stage's source beside the stage's version.

An artifact is named by its stage's version, not by the stage's source, so a source that computes something else under
the old version would be served old artifacts. `test_stage_versions.py` compares the sources with the lock.
"""

import ast
import hashlib
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import raymia.defenses
from raymia.training.defense import Defense
from raymia.versions import VERSIONS

ROOT = Path(__file__).resolve().parent.parent
LOCK = Path(__file__).with_name("stages.lock.json")

# Files of a stage's package that lay out, load or check without changing a number.
IDLE = {
    "raymia/attacks/__init__.py",
    "raymia/attacks/registry.py",
    "raymia/metrics/__init__.py",
    "raymia/models/__init__.py",
    "raymia/models/checks.py",
    "raymia/models/user_code.py",
    "raymia/records/__init__.py",
    "raymia/records/location.py",
    # Made for the table from what artifacts hold, each time anew.
    "raymia/metrics/caught.py",
    "raymia/metrics/comparison.py",
    "raymia/metrics/exposed.py",
    "raymia/metrics/frontier.py",
    "raymia/metrics/memorization.py",
    "raymia/metrics/memorization_bins.py",
    "raymia/metrics/leakage.py",
    "raymia/metrics/places.py",
    "raymia/metrics/results.py",
    "raymia/metrics/summary.py",
    "raymia/metrics/table.py",
    "raymia/metrics/verification.py",
}

_OF_A_DEFENSE = re.compile(r"from raymia\.defenses\.(\w+) import")

# A folder stands for its files, but for those that another stage names. What several stages compute with is in each.
SOURCES: dict[str, tuple[str, ...]] = {
    "records": ("raymia/records", "raymia/seeds.py"),
    "models": ("raymia/models",),
    "denoiser": (
        "raymia/diffusion/denoiser.py",
        "raymia/diffusion/noise.py",
        "raymia/diffusion/train.py",
        "raymia/recipes/generator.py",
        "raymia/seeds.py",
    ),
    "drawing": (
        "raymia/diffusion/drawing.py",
        "raymia/diffusion/filter.py",
        "raymia/diffusion/sampler.py",
        "raymia/diffusion/shards.py",
        "raymia/diffusion/synthetic_set.py",
        "raymia/recipes/synthetic.py",
    ),
    "training": (
        "raymia/training",
        "raymia/recipes/custom.py",
        "raymia/recipes/fitted.py",
        "raymia/recipes/model.py",
        "raymia/seeds.py",
    ),
    "signals": (
        "raymia/adversarial/evaluation.py",
        "raymia/adversarial/pgd.py",
        "raymia/adversarial/region.py",
        "raymia/recipes/answers.py",
        "raymia/recipes/queries.py",
        "raymia/recipes/signals.py",
        "raymia/recipes/trained.py",
    ),
    "robustness": (
        "raymia/adversarial/autoattack.py",
        "raymia/adversarial/evaluation.py",
        "raymia/adversarial/pgd.py",
        "raymia/adversarial/region.py",
        "raymia/metrics/robustness.py",
        "raymia/recipes/robustness.py",
    ),
    "attacks": ("raymia/attacks", "raymia/recipes/scores.py"),
    "leak": ("raymia/diffusion/denoising_loss.py", "raymia/recipes/leak.py"),
    "metrics": ("raymia/metrics",),
    "quality": (
        "raymia/metrics/synthetic.py",
        "raymia/metrics/synthetic_copies.py",
        "raymia/metrics/synthetic_coverage.py",
        "raymia/metrics/synthetic_distance.py",
        "raymia/metrics/synthetic_neighbors.py",
        "raymia/models/features.py",
        "raymia/recipes/quality.py",
        "raymia/recipes/sheet.py",
    ),
    "results": ("raymia/recipes/result.py",),
}

Lock = dict[str, dict[str, Any]]


def current() -> Lock:
    """Version and digest of every stage, and of every defense, which has a version of its own."""
    stages = {stage: {"version": VERSIONS[stage], "digest": digest(files_of(stage))} for stage in SOURCES}
    defenses = {
        f"defense {defense.name}": {"version": defense.version, "digest": digest([path, *_shared_by(path)])}
        for path, defense in defenses_by_file()
    }
    return stages | defenses


def locked() -> Lock:
    """What the lock says."""
    lock: Lock = json.loads(LOCK.read_text(encoding="utf-8"))
    return lock


def changed_under_the_same_version(lock: Lock, now: Lock) -> list[str]:
    """Stages whose source is not the locked one though their version is."""
    return [
        stage
        for stage, state in now.items()
        if stage in lock and state["version"] == lock[stage]["version"] and state["digest"] != lock[stage]["digest"]
    ]


def files_of(stage: str) -> list[Path]:
    """The Python files that decide what a stage computes."""
    found: list[Path] = []
    for source in SOURCES[stage]:
        path = ROOT / source
        found += [one for one in sorted(path.rglob("*.py")) if one not in _named()] if path.is_dir() else [path]
    return [path for path in found if path.relative_to(ROOT).as_posix() not in IDLE]


def _named() -> set[Path]:
    """The files that some stage names by themselves."""
    return {ROOT / source for sources in SOURCES.values() for source in sources if source.endswith(".py")}


def defenses_by_file() -> Iterator[tuple[Path, type[Defense]]]:
    """Every built-in defense, one a file."""
    for module in pkgutil.iter_modules(raymia.defenses.__path__):
        loaded = importlib.import_module(f"raymia.defenses.{module.name}")
        for value in vars(loaded).values():
            if isinstance(value, type) and issubclass(value, Defense) and value.__module__ == loaded.__name__:
                yield Path(str(loaded.__file__)), value


def _shared_by(path: Path) -> list[Path]:
    """What a defense has in common with others, as the methods of adversarial training do: a change of it is one of
    each of them.
    """
    source = path.read_text(encoding="utf-8")
    found = [ROOT / "raymia" / "defenses" / f"{name}.py" for name in _OF_A_DEFENSE.findall(source)]
    for folder in ("adversarial", "privacy"):
        if f"raymia.{folder}" in source:
            found += sorted((ROOT / "raymia" / folder).glob("*.py"))
    return [one for one in found if one.name not in ("__init__.py", "autoattack.py", "evaluation.py")]


def digest(files: list[Path]) -> str:
    """Of the files' names and meaning: comments, docstrings, layout and the texts of errors do not count."""
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(ROOT).as_posix()}\0{meaning(path.read_text(encoding='utf-8'))}\0".encode())
    return total.hexdigest()[:16]


def meaning(source: str) -> str:
    """The syntax tree of a source without docstrings and what is said when something is raised."""
    return repr(_outline(_Wordless().visit(ast.parse(source))))


def _outline(node: Any) -> Any:
    """Nested lists, the same in every Python: `ast.dump` shows empty fields, and new ones, in some versions only."""
    if isinstance(node, ast.AST):
        parts = [[name, _outline(value)] for name, value in ast.iter_fields(node) if value is not None and value != []]
        return [type(node).__name__, *parts]
    return [_outline(one) for one in node] if isinstance(node, list) else repr(node)


class _Wordless(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:]  # type: ignore[attr-defined]
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args = []
        return self.generic_visit(node)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@click.command()
@click.option(
    "--same-results",
    multiple=True,
    metavar="STAGE",
    help="Lock this stage's new source under its old version: the change computes the same, bit for bit.",
)
def main(same_results: tuple[str, ...]) -> None:
    """Write tests/stages.lock.json, unless a stage changed and its version did not."""
    now = current()
    unknown = set(same_results) - now.keys()
    if unknown:
        raise click.UsageError(f"no such stage: {', '.join(sorted(unknown))}; known are {', '.join(now)}")
    stale = changed_under_the_same_version(locked(), now) if LOCK.exists() else []
    refused = [stage for stage in stale if stage not in same_results]
    if refused:
        raise click.ClickException(
            f"{', '.join(refused)}: the source changed and the version did not. Raise the version (raymia/versions.py, "
            "or `version` of the defense). Only where the change computes the same, bit for bit: "
            + " ".join(f'--same-results "{stage}"' for stage in refused)
        )
    LOCK.write_text(json.dumps(now, indent=2) + "\n", encoding="utf-8")
    click.echo(f"locked {len(now)} stages in {LOCK.name}")


if __name__ == "__main__":
    main()
