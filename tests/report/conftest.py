"""Rows of studies that never ran: the report only reads them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

ATTACKS = ("loss", "entropy", "modified_entropy", "nn")
SWEEPS: dict[str, tuple[str, tuple[float, ...]]] = {
    "mixup": ("mixup.alpha", (0.1, 0.2, 0.3, 0.4, 0.5)),
    "label_smoothing": ("label_smoothing.epsilon", (0.1, 0.2, 0.3, 0.4, 0.5)),
    "early_stopping": ("early_stopping.fraction", (0.125, 0.25, 0.375, 0.5, 0.625)),
    "relaxloss": ("relaxloss.alpha", (0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 1.5, 2.0)),
    "dropout": ("dropout.rate", (0.1, 0.2, 0.3, 0.4, 0.5)),
}
# Real records that the target sees, of 3,000; the others shaped only its generator and its filter.
DIFFUSION: tuple[str, tuple[float, ...]] = ("diffusion_mixup.real", (0, 150, 300, 1200, 3000))
MEMBERS = 3000
SEEDS = 5

Row = dict[str, Any]
Study = Callable[..., list[Row]]


@pytest.fixture(scope="session")
def study() -> Study:
    """Rows of a study of the named defenses (all of `SWEEPS` when none is named).

    `diffusion_mixup` alone has populations apart; it comes only when it is named.
    """
    return make_rows


def make_rows(*names: str, attacks: tuple[str, ...] = ATTACKS) -> list[Row]:
    """A plausible study: undefended and the sweeps, per seed and pooled, each attack and the worst."""
    draw = np.random.default_rng(7)
    settings: list[tuple[str, str | None, float | None]] = [("none", None, None)]
    for name in names or tuple(SWEEPS):
        column, values = (SWEEPS | {"diffusion_mixup": DIFFUSION})[name]
        settings += [(name, column, value) for value in values]
    rows: list[Row] = []
    for defense, column, value in settings:
        rows += _setting_rows(defense, column, value, attacks, draw)
    for attack in (*attacks, "worst"):
        for group in (("all", "any"), ("direct",), ("indirect",)):
            found = [row for row in rows if row["population"] in group and row["attack"] == attack]
            _mark_frontier([row for row in found if row["seed"] == "pooled"])
    return rows


def _setting_rows(
    defense: str, column: str | None, value: float | None, attacks: tuple[str, ...], draw: np.random.Generator
) -> list[Row]:
    top = {"relaxloss": 2.0, "diffusion_mixup": 2400.0}.get(defense, 0.6)
    span = (0.0 if value is None else value) / top
    gain = {"mixup": 2, "label_smoothing": 3, "early_stopping": 1, "relaxloss": -9, "dropout": 2.5}
    cut = {"none": 0.0, "mixup": 0.03, "label_smoothing": 0.05, "early_stopping": 0.3, "relaxloss": 0.25}
    drop = cut.get(defense, 0.02) * (1 - span if defense == "early_stopping" else span)
    accuracy = 0.724 + 0.01 * gain.get(defense, 0) * span + draw.normal(0, 0.003)
    if defense == "diffusion_mixup":
        drop, accuracy = 0.27 - 0.16 * span, accuracy - 0.02 * (1 - 2 * span)
    label = "none" if column is None else f"{defense} {column.split('.')[1]}={value}"
    common: Row = {"setting": label, "defense": defense}
    common |= {name: (value if name == column else None) for name, _ in (*SWEEPS.values(), DIFFUSION)}
    measures = {(name, "all"): 0.86 - 0.04 * index - drop + draw.normal(0, 0.004) for index, name in enumerate(attacks)}
    members = {"all": MEMBERS}
    if defense == "diffusion_mixup":
        direct = int(value or 0)
        apart = {"direct": direct, "indirect": MEMBERS - direct} if direct < MEMBERS else {}
        members |= {name: count for name, count in apart.items() if count} | {"generator": MEMBERS}
        shifts = {"direct": 0.14, "indirect": -0.02}
        measures |= {
            (name, population): measures[name, "all"] + shift
            for population, shift in shifts.items()
            for name in attacks
            if population in members
        }
        measures |= {("denoising_loss", "generator"): 0.9, ("nearest_copy", "generator"): 0.55}
    worst = max(auc for (_, population), auc in measures.items() if population != "generator")
    rows: list[Row] = []
    for seed in range(SEEDS):
        test, train = accuracy + draw.normal(0, 0.006), 0.999 - 0.1 * max(drop, 0)
        rows += [
            common | _measured(seed, train, test, measure, auc + draw.normal(0, 0.01), members[measure[1]])
            for measure, auc in measures.items()
        ]
    measures["worst", "any" if "indirect" in members else "all"] = worst
    for measure, auc in measures.items():
        count = SEEDS * members.get(measure[1], 0)
        rows.append(common | _pooled(defense, 0.999 - 0.1 * max(drop, 0), accuracy, measure, auc, drop, count))
    return rows


def _measured(seed: int | str, train: float, test: float, measure: tuple[str, str], auc: float, members: int) -> Row:
    names = ("test_accuracy_low", "test_accuracy_high", "auc_low", "auc_high", "interval_kind", "verdict")
    more = ("delta_auc", "delta_auc_low", "delta_auc_high", "p_on_frontier")
    accuracy = ("delta_test_accuracy", "delta_test_accuracy_low", "delta_test_accuracy_high")
    return dict.fromkeys((*names, *more, *accuracy)) | {
        "seed": seed,
        "train_accuracy": train,
        "test_accuracy": test,
        "generalization_gap": train - test,
        "ece": 0.1,
        "attack": measure[0],
        "population": measure[1],
        "members": members or None,
        "nonmembers": (SEEDS if seed == "pooled" else 1) * MEMBERS if members else None,
        "auc": auc,
        "tpr_at_fpr_0.1": 0.3,
        "tpr_at_fpr_0.1_low": 0.2,
        "tpr_at_fpr_0.001": "not resolvable",
        "on_frontier": False,
    }


def _pooled(
    defense: str, train: float, test: float, measure: tuple[str, str], auc: float, drop: float, members: int
) -> Row:
    row = _measured("pooled", train, test, measure, auc, members)
    row |= {"test_accuracy_low": test - 0.008, "test_accuracy_high": test + 0.008}
    row |= {"auc_low": auc - 0.014, "auc_high": auc + 0.014, "interval_kind": "seeds"}
    if measure[1] == "generator":
        return row | {"on_frontier": None}
    if defense == "none":
        return row | {"verdict": "undefended"}
    low, high = -drop - 0.02, -drop + 0.02
    verdict = "less leakage than undefended" if high < 0 else "not distinguishable from undefended"
    row |= {"delta_auc": -drop, "delta_auc_low": low, "delta_auc_high": high, "verdict": verdict}
    gain = test - 0.724
    names = ("delta_test_accuracy", "delta_test_accuracy_low", "delta_test_accuracy_high")
    return row | dict(zip(names, (gain, gain - 0.011, gain + 0.012), strict=True))


def _mark_frontier(rows: list[Row]) -> None:
    for row in rows:
        beaten = any(other["auc"] < row["auc"] and other["test_accuracy"] > row["test_accuracy"] for other in rows)
        row["on_frontier"], row["p_on_frontier"] = not beaten, 0.12 if beaten else 0.83
