"""What a step of adversarial training costs, in steps of plain training."""

import statistics

from benchmarks.figure import Figure, spread
from benchmarks.throughput import engine_epochs
from benchmarks.workload import noise_images, training
from raymia.defenses import AWP, MART, PGDAT, TRADES, TRADESAWP, DeMem
from raymia.records import Records
from raymia.training.defense import Composed, Defense

STEPS = 10
PAIRS = STEPS + 1  # forward and backward: one a step of crafting, one to learn
BATCH = 64


def methods(steps: int) -> dict[str, tuple[Defense, ...]]:
    """Each method as its authors set it, but for the steps of crafting."""
    pgd = PGDAT(steps=steps)
    return {
        "pgd_at": (pgd,),
        "pgd_at + demem": (pgd, DeMem(strength=0.4)),
        "trades": (TRADES(steps=steps),),
        "mart": (MART(steps=steps),),
        "pgd_at + awp": (pgd, AWP()),
        "trades_awp": (TRADESAWP(steps=steps),),
    }


def steps_of_training(small: bool) -> list[Figure]:
    """Epochs of every method, each between two plain ones. Ten steps of crafting are what the papers train with."""
    records = noise_images(BATCH if small else 4 * BATCH)
    rounds = 1 if small else 3
    plain: list[float] = []
    crafted: dict[str, list[float]] = {name: [] for name in methods(STEPS)}
    ratios: dict[str, list[float]] = {name: [] for name in methods(STEPS)}
    for _ in range(rounds):
        for name, defenses in methods(STEPS).items():
            before = _epochs(records, (), 4)
            during = _epochs(records, defenses, 2)
            after = _epochs(records, (), 4)
            plain += before + after
            crafted[name] += during
            ratios[name].append(statistics.median(during) / statistics.median(before + after))
    how = f"ResNet18 width 16, batch {BATCH}, {STEPS} steps of crafting, seconds an epoch of {len(records)} images"
    return [
        Figure(
            f"a step of {name} / a plain step",
            statistics.median(ratios[name]),
            "×",
            ("<", 1.05 * PAIRS),
            f"{how}: {spread(crafted[name])}; plain {spread(plain)}",
        )
        for name in ratios
    ]


def _epochs(records: Records, defenses: tuple[Defense, ...], epochs: int) -> list[float]:
    return engine_epochs(records, "resnet18", {"width": 16}, training(epochs, BATCH), Composed(defenses))
