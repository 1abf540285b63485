"""The rows of `frontier.csv`, as every figure and table of the report reads them.

A row is one setting × attack × population of members × seed. The report draws the pooled rows (seed `pooled`); each
row repeats its setting's accuracies, and the attack `worst` stands for the strongest attack on that setting, over all
its populations of members.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from raymia.metrics.populations import ALL, APART
from raymia.metrics.results import UNDEFENDED, WORST
from raymia.metrics.summary import POOLED
from raymia.metrics.summary import hyperparameters as columns_of

Row = Mapping[str, Any]

DP_SGD = "dp_sgd"

# The order of columns, lines and legends in every figure and table.
KNOWN_DEFENSES = (
    UNDEFENDED,
    "mixup",
    "label_smoothing",
    "early_stopping",
    "relaxloss",
    "dropout",
    "diffusion_mixup",
    DP_SGD,
)

# A setting may cost this much test accuracy (a fraction) and still be the one chosen for its defense.
ACCURACY_ALLOWANCE = 0.02


def defenses(rows: Iterable[Row]) -> list[str]:
    """The defenses of the rows: the known ones in their fixed order, then the others by name."""
    return sorted({row["defense"] for row in rows}, key=_defense_rank)


def attacks(rows: Iterable[Row], population: str = ALL) -> list[str]:
    """The attacks on a population in the order of the table, without `worst`."""
    found = dict.fromkeys(row["attack"] for row in rows if row["population"] == population)
    return [name for name in found if name != WORST]


def pooled(rows: Iterable[Row], attack: str, population: str = ALL) -> list[Row]:
    """One attack's pooled rows that hold a result: undefended first, then by defense and hyperparameter.

    `worst` is over whatever populations its setting has: its rows come whatever population is asked for.
    """
    found = [
        row
        for row in rows
        if row["seed"] == POOLED
        and row["attack"] == attack
        and (attack == WORST or row["population"] == population)
        and row["auc"] is not None
        and row["test_accuracy"] is not None
    ]
    return sorted(found, key=_order)


def settings_with(rows: Iterable[Row], populations: Collection[str] = APART) -> set[str]:
    """The settings that have rows of one of these populations, without more said: of the members' apart."""
    return {row["setting"] for row in rows if row["population"] in populations}


def undefended(rows: Iterable[Row]) -> Row | None:
    """The undefended row among one attack's pooled rows."""
    return next((row for row in rows if row["defense"] == UNDEFENDED), None)


def hyperparameters(row: Row) -> dict[str, Any]:
    """What tells the row's setting from others of its defense, by column name.

    DP-SGD's settings stand on one line, by the ε that they spend, however they came to it.
    """
    found = columns_of(row)
    if row.get("epsilon") is None:
        return found
    others = {name: value for name, value in found.items() if not name.startswith(f"{DP_SGD}.")}
    return {**others, f"{DP_SGD}.ε": float(f"{row['epsilon']:.3g}")}


def varied(rows: Sequence[Row]) -> list[str]:
    """The hyperparameters in which these settings differ."""
    found = [hyperparameters(row) for row in rows]
    names = dict.fromkeys(name for values in found for name in values)
    return [name for name in names if len({str(values.get(name)) for values in found}) > 1]


def is_number(value: Any) -> bool:
    """Whether a hyperparameter's value is a number (a bool is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown_value(value: Any) -> str:
    """A hyperparameter's value for people."""
    return f"{value:g}" if is_number(value) else str(value)


def words(name: str) -> str:
    """A name of the code as words: `label_smoothing` is `label smoothing`."""
    return name.replace("_", " ")


def chosen(rows: Sequence[Row]) -> Row | None:
    """The setting that stands for a defense, from its pooled rows of the attack `worst` and the undefended one.

    The lowest worst-attack AUC among the settings whose test accuracy is within `ACCURACY_ALLOWANCE` of undefended;
    if none is (or undefended is missing), the highest test accuracy. The rule is stated wherever it is used.
    """
    base = undefended(rows)
    defended = [row for row in rows if row["defense"] != UNDEFENDED]
    if not defended:
        return None
    if base is not None:
        floor = base["test_accuracy"] - ACCURACY_ALLOWANCE
        # The slack keeps a setting that costs exactly the allowance, whatever the rounding of the subtraction.
        close = [row for row in defended if row["test_accuracy"] >= floor - 1e-12]
        if close:
            return min(close, key=lambda row: row["auc"])
    return max(defended, key=lambda row: row["test_accuracy"])


def _defense_rank(name: str) -> tuple[int, str]:
    known = KNOWN_DEFENSES.index(name) if name in KNOWN_DEFENSES else len(KNOWN_DEFENSES)
    return known, name


def _order(row: Row) -> tuple[Any, ...]:
    values = sorted(hyperparameters(row).items(), key=lambda item: is_number(item[1]))
    return _defense_rank(row["defense"]), [_value_key(value) for _, value in values]


def _value_key(value: Any) -> tuple[bool, float, str]:
    return (True, float(value), "") if is_number(value) else (False, 0.0, str(value))
