"""What DP-SGD spends, in the tables and the figure."""

import io
from typing import Any

from rich.console import Console

from raymia.report.guarantee_table import guarantee_table
from raymia.report.notes import notes
from raymia.report.panel import curves
from raymia.report.rows import hyperparameters

Row = dict[str, Any]


def private(rows: list[Row], epsilon: float | None, lower: float | None = None, attack: str = "loss") -> list[Row]:
    """The rows of one setting with a guarantee, and a canary row of an attack."""
    own = [row | {"epsilon": epsilon, "delta": 1e-3} for row in rows]
    if lower is None:
        return own
    [first] = [row for row in own if row["seed"] == "pooled" and row["attack"] == "loss"]
    return [*own, first | {"attack": attack, "population": "canary", "epsilon_lower": lower, "auc": 0.8}]


def shown(rows: list[Row]) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(guarantee_table(rows))
    return " ".join(console.export_text().split())


def of_setting(rows: list[Row], setting: str) -> list[Row]:
    return [row for row in rows if row["setting"] == setting]


def test_nothing_is_said_where_nothing_is_spent_or_audited(study) -> None:
    assert guarantee_table(study("mixup")) is None


def test_the_accountants_bound_stands_beside_the_canaries(study) -> None:
    rows = study("mixup")
    names = list(dict.fromkeys(row["setting"] for row in rows))
    table = [*private(of_setting(rows, names[0]), None, 2.5), *private(of_setting(rows, names[1]), 8.0, 0.31)]
    table += private(of_setting(rows, names[2]), 412.0)
    text = shown(table)
    assert f"{names[0]} no guarantee 2.50 0.800" in text
    assert f"{names[1]} 8 (δ 0.001) 0.31 0.800" in text
    assert f"{names[2]} 412 (δ 0.001, no meaningful guarantee) - -" in text
    assert "by guessing the canaries with loss" in text


def test_the_auditing_attack_is_fixed_whatever_it_finds(study) -> None:
    rows = study("mixup")
    own = of_setting(rows, "none")
    table = private(own, None, 3.0) + private(own, None, 0.5, attack="lira_online")[-1:]
    assert "none no guarantee 0.50" in shown(table)


def test_dp_sgds_settings_lie_on_one_line_by_epsilon(study) -> None:
    [plain] = [row for row in study("mixup") if row["setting"] == "none" and row["seed"] == "pooled"][:1]
    given = [("epsilon", 8, 8.0), ("noise_multiplier", 0.05, 3412.3), ("epsilon", 1, 1.0)]
    rows = [
        plain | {"defense": "dp_sgd", "setting": f"dp_sgd {name}={value}", f"dp_sgd.{name}": value, "epsilon": spent}
        for name, value, spent in given
    ]
    assert [hyperparameters(row) for row in rows] == [{"dp_sgd.ε": 8.0}, {"dp_sgd.ε": 3410.0}, {"dp_sgd.ε": 1.0}]
    assert len(curves(rows)) == 1
    assert "DP-SGD's numbers are its ε; above 20 it is no meaningful guarantee." in notes(rows)
    assert not any("meaningful" in note for note in notes(rows[:1]))
