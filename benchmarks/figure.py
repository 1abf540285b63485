"""What a benchmark finds: figures with their targets."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One number. target: what it should be, e.g. (">=", 0.97), or None where there is none. how: what was measured."""

    name: str
    value: float
    unit: str
    target: tuple[str, float] | None
    how: str

    @property
    def met(self) -> bool | None:
        """Whether it is as it should be; None without a target."""
        if self.target is None:
            return None
        sign, limit = self.target
        return self.value >= limit if sign == ">=" else self.value < limit

    def line(self) -> str:
        """For the screen."""
        verdict = {None: "", True: "  met", False: "  MISSED"}[self.met]
        target = f"  (target {self.target[0]} {self.target[1]:g}{self.unit})" if self.target else ""
        return f"{self.name}: {self.value:.3g}{self.unit}{target}{verdict}\n    {self.how}"


def seconds(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def spread(values: list[float]) -> str:
    """Median, smallest and largest, for people."""
    return f"median {statistics.median(values):.3g}, {min(values):.3g} to {max(values):.3g}, n={len(values)}"
