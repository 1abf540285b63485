"""A proposer's settings as Ray Tune takes them."""

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.search import Searcher

from raymia.space import Setting
from raymia.study.search import Outcome, Proposer


class SettingSearcher(Searcher):
    """Ray Tune's view of a proposer: hands out one setting a trial, and tells a batch's outcomes in its order.

    order: called with each new setting and its number, before its trial starts.
    """

    def __init__(self, source: Proposer, order: Callable[[int, Setting], None]) -> None:
        super().__init__(metric=None, mode=None)
        self._source = source
        self._order = order
        self._waiting: list[int] = []
        self._batch: list[int] = []
        self._outcomes: dict[int, Outcome | None] = {}
        self._numbers: dict[str, int] = {}
        self._seen: dict[Setting, int] = {}
        self._ended = False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self._waiting and not self._ended:
            self._new_batch()
        if not self._waiting:
            return Searcher.FINISHED if self._ended else None
        number = self._waiting.pop(0)
        self._numbers[trial_id] = number
        return {"number": number}

    def _new_batch(self) -> None:
        while all(number in self._outcomes for number in self._batch) and not self._ended:
            if self._batch:
                self._source.tell([self._outcomes[number] for number in self._batch])
            settings = self._source.propose()
            self._ended = not settings
            self._batch = [self._number(setting) for setting in settings]

    def _number(self, setting: Setting) -> int:
        # Optuna may propose a setting twice: its outcome is known, or will be.
        if setting not in self._seen:
            number = len(self._seen)
            self._order(number, setting)
            self._seen[setting] = number
            self._waiting.append(number)
        return self._seen[setting]

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers[trial_id]
        known = not error and result is not None and "test_accuracy" in result
        self._outcomes[number] = result if known else None

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Outcomes count when the trial is complete."""

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles itself for a restore of its own, which is not how a study resumes.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a repeated study proposes the same settings and finds their artifacts."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""
