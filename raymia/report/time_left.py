"""How long a study will still take, from how fast its models came so far."""

from collections import deque


class TimeLeft:
    """Seconds left, by the pace of the last models.

    Give it every look at the study; models may be fractions (half-trained ones count half) and must count only what
    this run trains, not what it reuses. The pace is that of the last `window` models, so that it follows a study
    whose later settings cost more; between two models the time counts down.
    """

    def __init__(self, models_total: float, window: float = 16.0) -> None:
        self._total = models_total
        self._window = window
        self._samples: deque[tuple[float, float]] = deque()

    def look(self, seconds: float, models: float) -> float | None:
        """Seconds left at a time of any steady clock with so many models done; None before the first progress."""
        # A twentieth of a model is progress enough: a fast clock must not fill the memory.
        if not self._samples or models >= min(self._samples[-1][1] + 0.05, self._total):
            self._samples.append((seconds, models))
        while len(self._samples) > 2 and models - self._samples[1][1] >= self._window:
            self._samples.popleft()
        (first_time, first), (last_time, last) = self._samples[0], self._samples[-1]
        if last >= self._total:
            return 0.0
        if last <= first or last_time <= first_time:
            return None
        each = (last_time - first_time) / (last - first)
        # An overdue model says nothing about those after it: at most its own time is taken off.
        return max(0.0, (self._total - last) * each - min(seconds - last_time, each))


def duration(seconds: float) -> str:
    """A time in words a person reads at a glance: `45 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
