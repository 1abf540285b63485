"""What the command does: publish the kit, or check scores against it."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from raymia.conformance.check import Comparison, base_name, compare_scores
from raymia.conformance.expected import LEARNED, WITH_A, Mistake, expected_scores
from raymia.conformance.given import read_given
from raymia.conformance.golden import ANSWERS, EXPECTED, MODEL, Scores, data_file, read_arrays, read_expected
from raymia.conformance.own import own_scores
from raymia.conformance.plain import each, phi
from raymia.errors import InputError
from raymia.report.grid import grid

README = f"""# Golden answers and expected scores

`{ANSWERS}` (numpy): 60 records, 5 classes, 2 queries a record (query 0 is the record itself), 16 reference models.

    target_logits [N, Q, C], labels [N], member [N], id [N]
    reference_logits [M, N, Q, C], reference_member [M, N]
    shadow_logits [S, Q, C], shadow_labels [S], shadow_member [S]
    population_logits [Z, Q, C], population_labels [Z], population_reference_logits [M, Z, Q, C]

`{MODEL}`: a linear model (weights [C, F], bias [C]), inputs [N, F] and labels [N], for `gradient_norm` alone.

`{EXPECTED}`: the scores of every attack on the N records, larger = more likely a member. RMIA tunes its a; any of
0, 0.1, … 1 will do, and the columns are named `rmia{WITH_A}0.3`. Definitions: `plain.py`, `plain_references.py`.

Not here, because they learn by gradient descent: {", ".join(sorted(LEARNED))}.

Write your scores as Parquet or CSV (`id`, a column an attack) or npz (an array an attack) and check them:

    python -m raymia.conformance --check scores.parquet
"""
SURE = 15.0  # |phi| beyond which 1 - p, or p, has no digits in float32
_DEFINITIONS = ("plain.py", "plain_references.py")


def publish(folder: Path) -> int:
    """Write the kit into a folder; the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (ANSWERS, MODEL, EXPECTED, *_DEFINITIONS):
        shutil.copyfile(data_file(name), folder / name)
    (folder / "README.md").write_text(README, encoding="utf-8")
    Console().print(f"golden arrays, expected scores and their definitions: {folder}", markup=False, highlight=False)
    return 0


def check_scores(path: Path | None) -> int:
    """Show how the scores of a file, or raymia's own, compare with the expected ones; the exit code."""
    arrays, expected = read_arrays(ANSWERS), read_expected()
    given = own_scores() if path is None else read_given(path, arrays["id"])
    names = list(dict.fromkeys(base_name(name) for name in expected))
    checked = [name for name in names if name in given]
    if not checked:
        raise InputError(f"--check {path}: no attack of the kit is in it; name the columns {', '.join(names)}")
    mistaken = {str(one): expected_scores(arrays, read_arrays(MODEL), one) for one in Mistake}
    sure_N = np.abs(each(arrays, "target", phi)) > SURE
    found = [compare_scores(name, given[name], expected, mistaken, sure_N) for name in checked]
    _show(found, given, [name for name in names if name not in given])
    return 0 if all(one.passes for one in found) else 1


def _show(found: Sequence[Comparison], given: Mapping[str, Scores], absent: Sequence[str]) -> None:
    table = grid()
    for head in ("attack", "verdict", "largest deviation", "rank correlation", "why"):
        table.add_column(head, overflow="fold")
    for one in found:
        deviation, correlation = f"{one.deviation:.3g}", f"{one.rank_correlation:.6f}"
        table.add_row(Text(one.attack), str(one.verdict), deviation, correlation, Text(one.cause or ""))
    console = Console()
    console.print(table)
    lines = {
        "Learned, no scores are expected": [name for name in given if name in LEARNED],
        "Unknown to the kit": [n for n in given if n not in LEARNED and n not in {one.attack for one in found}],
        "Not in the file": absent,
    }
    for what, names in lines.items():
        if names:
            console.print(f"{what}: {', '.join(names)}.", markup=False, highlight=False, soft_wrap=True)
    passed = sum(one.passes for one in found)
    console.print(f"{passed} of {len(found)} attacks conform.", markup=False, highlight=False)
