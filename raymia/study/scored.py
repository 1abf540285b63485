"""A finished study put together again, with the scores of one attack on each of its settings."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raymia.errors import InputError
from raymia.metrics.populations import ALL
from raymia.metrics.summary import POOLED
from raymia.recipes.result import ResultRecipe
from raymia.recipes.scores import ScoresRecipe
from raymia.records import Records, load_records
from raymia.store import DamagedError, MissingError
from raymia.study.facts import facts_of
from raymia.study.finished import FinishedStudy, read_finished
from raymia.study.study import Study, assemble


@dataclass(frozen=True)
class ScoredStudy:
    """study: as its folder has it. whole: as it was run. records: its canaries made.

    By setting, in the table's order: results, and attacks, the one that the scores are to be by.
    """

    folder: Path
    study: FinishedStudy
    whole: Study
    records: Records
    results: Mapping[str, ResultRecipe]
    attacks: Mapping[str, str]

    def scores(self, setting: str) -> list[ScoresRecipe]:
        """The scores of each target of a setting. Raises InputError where the study did not run that attack."""
        measure, targets = self.attacks[setting], self.results[setting].targets
        members = [one for target in targets for one in target.scores if isinstance(one, ScoresRecipe)]
        found = [one for one in members if one.measure == measure]
        if not found:
            known = ", ".join(dict.fromkeys(one.measure for one in members))
            raise InputError(f"--attack {measure}: the study did not run it; choose from {known}")
        return found

    @contextmanager
    def still_there(self) -> Iterator[None]:
        """Turn artifacts of the study that are gone or damaged into an InputError that names the remedy."""
        try:
            yield
        except (MissingError, DamagedError):
            raise InputError(
                f"{self.folder}: its scores are no longer there, or are of another version; give the study's command "
                "again"
            ) from None


def read_scored(folder: Path, attack: str | None) -> ScoredStudy:
    """The finished study in a folder. attack: None takes each setting's own worst on all members.

    Raises InputError where the folder holds no finished study.
    """
    study = read_finished(folder)
    records = load_records(**study.config.data.model_dump())
    whole = assemble(study.config, study.space(study.settings, study.title), facts_of(records))
    results = {setting.label: whole.result(setting) for setting in whole.settings}
    ordered = {name: results[name] for name in study.settings if name in results}
    attacks = {name: attack or _worst(study, name) for name in ordered}
    return ScoredStudy(folder, study, whole, whole.blueprint.planted(records), ordered, attacks)


def _worst(study: FinishedStudy, setting: str) -> str:
    """The setting's worst attack on all members, as the table has it."""
    pooled = [
        row
        for row in study.rows
        if row["setting"] == setting and row["seed"] == POOLED and row["population"] == ALL and row["members"]
    ]
    return str(max(pooled, key=lambda row: row["auc"])["attack"])
