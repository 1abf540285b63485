"""A finished study verified: its best settings trained anew on fresh seeds, under its attacks and the strong ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raymia.attacks import STRONG_ATTACKS
from raymia.config import PlanConfig, SearchedPlans, StudyConfig
from raymia.errors import InputError
from raymia.files import write_whole
from raymia.metrics.table import write_csv
from raymia.metrics.verification import Row, to_verify, verified_settings
from raymia.records.plan_choice import decided, plan_for
from raymia.report.verification import verification_markdown, verification_rows
from raymia.seeds import derive_seed
from raymia.space import Space
from raymia.study.finished import FinishedStudy, read_finished

DISJOINT = "on records that the search did not use"
REDRAWN = "redrawn, not disjoint: fresh seeds on the records of the search"


@dataclass(frozen=True)
class Verification:
    """What is to be run. searched: the rows of the study's table. records: how its records relate to the search's."""

    name: str
    config: StudyConfig
    space: Space
    searched: tuple[Row, ...]
    records: str
    of: str


def plan_verification(folder: Path, references: int, targets: int | None) -> Verification:
    """The verification of the study in this folder.

    references: reference models a target. targets: fresh ones (None: as many as the search had). Raises InputError
    where the folder holds no finished study.
    """
    study = read_finished(folder)
    config, of = study.config, f"verification of {study.title}"
    plan, records = _plan(study, references, targets)
    verified = config.model_copy(
        update={
            "seed": derive_seed(config.seed, "verification") % 2**31,
            "plan": plan,
            "attacks": tuple(dict.fromkeys((*config.attacks, *STRONG_ATTACKS))),
        }
    )
    space = study.space(to_verify(study.rows), of)
    return Verification(f"{study.name}-verification", verified, space, study.rows, records, str(study.record["key"]))


def write_verification(plan: Verification, folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Write `verification.csv` and `verification.md` beside the table of the fresh targets; their paths."""
    found = verified_settings(plan.searched, rows)
    csv, page = folder / "verification.csv", folder / "verification.md"
    write_csv(verification_rows(found, plan.records), csv)
    text = verification_markdown(found, plan.space.name, plan.records, plan.config.plan.targets)
    write_whole({page: text.encode("utf-8")})
    return [csv, page]


def _plan(study: FinishedStudy, references: int, targets: int | None) -> tuple[PlanConfig, str]:
    """The search's plan for fresh targets, its parts as large, and what to say of its records."""
    config, count = study.config, int(study.record["data"]["records"])
    changes: dict[str, Any] = {"references": references, "targets": targets or config.plan.targets}
    # Of the search's settings not all are verified, and a part of its own changes everybody's.
    redrawn = decided(config.plan, study.space(study.settings, "").needs_reserve).model_copy(update=changes)
    if config.plan.apart_from is not None:
        return redrawn, REDRAWN
    searched = SearchedPlans(seed=config.seed, targets=config.plan.targets)
    apart = redrawn.model_copy(update={"apart_from": searched})
    try:
        plan_for(count, apart, 0, 0)
    except InputError:
        return redrawn, REDRAWN
    return apart, DISJOINT
