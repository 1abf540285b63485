"""What a defense computes with is told by its version, or by that of a stage which every trained model is named by."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.lock_stages import IDLE, ROOT, _shared_by, current, defenses_by_file, digest, files_of

# The stages whose versions stand in a trained model's name, see `raymia.recipes.ground`.
OF_A_MODEL = ("records", "models", "training")
# What changes no number: errors, settings that stand in names themselves, and packages' lists of names.
SAYS_NOTHING = {
    "raymia/config.py",
    "raymia/diffusion/synthesis.py",
    "raymia/errors.py",
    "raymia/versions.py",
    "raymia/yaml_files.py",
}

FILES = sorted({path for path, _ in defenses_by_file()})


@cache
def imported(path: Path) -> tuple[Path, ...]:
    """The files of raymia's own that a file imports when it runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    idle = {id(node) for one in typing for node in ast.walk(one)}
    return tuple(one for node in ast.walk(tree) if id(node) not in idle for one in _imported_by(node))


def _imported_by(node: ast.AST) -> Iterator[Path]:
    if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "raymia":
        for alias in node.names:
            yield from _files(f"{node.module}.{alias.name}", str(node.module))
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.startswith("raymia."):
                yield from _files(alias.name)


def _files(*modules: str) -> Iterator[Path]:
    """The first of the modules that there is. A package stands for its files."""
    for module in modules:
        path = ROOT / module.replace(".", "/")
        if path.with_suffix(".py").exists():
            yield path.with_suffix(".py")
            return
        if path.is_dir():
            yield path / "__init__.py"
            return


def reached(path: Path) -> set[Path]:
    """Whatever it imports, however indirectly."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        new = [one for one in imported(waiting.pop()) if one not in found]
        found.update(new)
        waiting += new
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_all_that_a_defense_imports_has_a_version_that_its_models_are_named_by(path: Path) -> None:
    versioned = {path, *_shared_by(path), *(one for stage in OF_A_MODEL for one in files_of(stage))}
    left = {one.relative_to(ROOT).as_posix() for one in reached(path) - versioned if one.name != "__init__.py"}
    # Of adversarial examples' package, what only measures finished models.
    left -= {"raymia/adversarial/autoattack.py", "raymia/adversarial/evaluation.py"}
    assert left <= SAYS_NOTHING | IDLE


def test_the_search_for_imports_finds_them() -> None:
    """Through packages, from inside functions and of other defenses."""
    found = {
        name: {one.relative_to(ROOT).as_posix() for one in reached(ROOT / "raymia/defenses" / f"{name}.py")}
        for name in ("dp_sgd", "diffusion_mixup", "demem", "mixup")
    }
    assert {"raymia/privacy/accountant.py", "raymia/privacy/lazy_opacus.py", "raymia/seeds.py"} <= found["dp_sgd"]
    assert "raymia/defenses/mixup.py" in found["diffusion_mixup"]
    assert "raymia/adversarial/spread.py" in found["demem"]
    assert "raymia/training/run.py" in found["mixup"]
    assert not any(one.startswith("raymia/adversarial") for one in found["mixup"])


def digests() -> dict[str, str]:
    """Of each defense, as the lock has it."""
    return {defense.name: digest([path, *_shared_by(path)]) for path, defense in defenses_by_file()}


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    """The digests of the sources as they are."""
    return digests()


def test_the_lock_has_these_digests(before: dict[str, str]) -> None:
    now = current()
    assert {name: now[f"defense {name}"]["digest"] for name in before} == before


@pytest.mark.parametrize(
    ("shared", "defenses"),
    [
        ("raymia/privacy/accountant.py", {"dp_sgd"}),
        ("raymia/privacy/per_sample.py", {"dp_sgd"}),
        ("raymia/defenses/mixup.py", {"mixup", "diffusion_mixup", "generated_only"}),
        ("raymia/adversarial/trades.py", {"pgd_at", "trades", "mart", "awp", "trades_awp", "demem"}),
        ("raymia/defenses/selena.py", {"selena"}),
    ],
)
def test_a_change_of_what_is_shared_is_told_of_each_that_shares_it(
    shared: str, defenses: set[str], before: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / shared
    changed = path.read_text(encoding="utf-8") + "\n_CHANGED = 1\n"
    read = Path.read_text

    def altered(self: Path, encoding: str | None = None) -> str:
        return changed if self == path else read(self, encoding=encoding)

    monkeypatch.setattr(Path, "read_text", altered)
    now = digests()
    assert {name for name in now if now[name] != before[name]} == defenses
