"""The generalization gap of each defense, as Markdown (the form of paper 1's Tables 1 and 2), and what it hides.

A defense that trains on few of its members has a small gap on all of them: where members differ in how the model met
them, the attacks on each population stand below.
"""

from collections.abc import Iterable, Sequence

from raymia.metrics.intervals import ALPHA, t_interval
from raymia.metrics.populations import APART, GENERATOR
from raymia.metrics.results import UNDEFENDED, WORST
from raymia.metrics.summary import POOLED
from raymia.report import cells
from raymia.report.populations import Line, lines, settings_shown
from raymia.report.robustness import WORDS, measured
from raymia.report.rows import ACCURACY_ALLOWANCE, Row, attacks, chosen, defenses, pooled, undefended, words

_POINTS = (
    ("train accuracy", "train_accuracy"),
    ("test accuracy", "test_accuracy"),
    ("generalization gap", "generalization_gap"),
)

_POPULATION_NOTE = (
    "The model was trained on the direct members; only its generator, filter or teacher saw the indirect ones. Each "
    "population is told apart from the same non-members, by attacks fitted to the same population of the shadow model. "
    "Members: targets × members of each. Above, train accuracies are over all members, the worst attack over "
    "all populations."
)
_GENERATOR_NOTE = (
    "These look at the generator itself or at its images, which an attacker of the classifier alone does not see: they "
    "count neither as a setting's worst attack nor on a frontier. Members: the generator's training set."
)


def generalization_gap_markdown(rows: Sequence[Row], title: str) -> str:
    """Train accuracy, test accuracy and their gap: a column a defense at its chosen setting, then every setting.

    In percentage points, mean ± half-width of the Student t interval over the seeds' own rows; a setting with one
    seed has no half-width. How each defense's setting is chosen stands below the table. Settings with populations of
    members apart follow once more, with the AUC of each attack on each population and on the generator.
    """
    worst = pooled(rows, WORST)
    seeds = _by_seed(rows)
    columns = [row for row in (undefended(worst), *_chosen_settings(worst)) if row is not None]
    head = ["%", *(_escape(row["defense"]) for row in columns)]
    body = [["setting", *(_escape(_parameters(row)) for row in columns)]]
    body += [[label, *(_cell(seeds[row["setting"]], name) for row in columns)] for label, name in _POINTS]
    robust = measured(rows)
    full_head = [
        "setting",
        *(f"{label} (%)" for label, _ in _POINTS),
        *(f"{WORDS[name]} (%)" for name in robust),
        "worst attack AUC",
        "in the table above",
    ]
    full = [
        [
            _escape(row["setting"]),
            *(_cell(seeds[row["setting"]], name) for _, name in _POINTS),
            *(cells.robust_accuracy(row, name) for name in robust),
            cells.auc(row),
            "yes" if any(row is column for column in columns) else "",
        ]
        for row in worst
    ]
    parts = [f"# {title}", _table(head, body), _note(seeds.values()), "## All settings", _table(full_head, full)]
    parts += _population_parts(rows)
    return "\n\n".join(parts) + "\n"


def _chosen_settings(worst: Sequence[Row]) -> list[Row]:
    base = undefended(worst)
    found = []
    for defense in defenses(worst):
        own = [row for row in worst if row["defense"] == defense and defense != UNDEFENDED]
        pick = chosen([*own, *([base] if base is not None else [])])
        if pick is not None:
            found.append(pick)
    return found


def _population_parts(rows: Sequence[Row]) -> list[str]:
    parts = []
    if found := settings_shown(rows, APART, many=False):
        base = undefended(pooled(rows, WORST))
        shown = [line for row in ([] if base is None else [base]) + found for line in lines(rows, row["setting"])]
        parts += ["## AUC by population of the members", _line_table(shown, attacks(rows)), _POPULATION_NOTE]
    if found := settings_shown(rows, (GENERATOR,), many=False):
        shown = [line for row in found for line in lines(rows, row["setting"], (GENERATOR,))]
        parts += ["## AUC of attacks on the generator", _line_table(shown, attacks(rows, GENERATOR)), _GENERATOR_NOTE]
    return parts


def _line_table(shown: Sequence[Line], names: Sequence[str]) -> str:
    body = [
        [
            _escape(line.setting),
            line.population,
            line.members,
            *(cells.auc(line.rows[name]) if name in line.rows else "–" for name in names),
        ]
        for line in shown
    ]
    return _table(["setting", "population", "members", *(_escape(words(name)) for name in names)], body)


def _by_seed(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """One row a setting and seed: the accuracies are the same in each attack's row."""
    found: dict[str, dict[object, Row]] = {}
    for row in rows:
        if row["seed"] != POOLED:
            found.setdefault(row["setting"], {}).setdefault(row["seed"], row)
    return {setting: list(seeds.values()) for setting, seeds in found.items()}


def _cell(seeds: Sequence[Row], name: str) -> str:
    values = [100 * row[name] for row in seeds]
    mean = sum(values) / len(values)
    interval = t_interval(values)
    return f"{mean:.2f}" if interval is None else f"{mean:.2f} ± {(interval.high - interval.low) / 2:.2f}"


def _parameters(row: Row) -> str:
    return str(row["setting"]).removeprefix(row["defense"]).strip() or "–"


def _note(seeds: Iterable[Sequence[Row]]) -> str:
    counts = sorted({len(each) for each in seeds})
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}" if counts else "0"
    spread = f"± is half the {100 * (1 - ALPHA):.0f}% Student t interval over {number} target seeds."
    if counts == [1]:
        spread = "One target seed a setting: no interval."
    return (
        f"Accuracies are in percent, on unaugmented data; the gap is train − test in percentage points. {spread} "
        "Each defense stands at the setting with the lowest worst-attack AUC among its settings whose test accuracy "
        f"is within {100 * ACCURACY_ALLOWANCE:g} points of undefended; if none is, at its most accurate setting. The "
        "choice is made on the numbers shown here, not on a verification with fresh seeds."
    )


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *(["---:"] * (len(head) - 1))], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
