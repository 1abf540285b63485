"""The records of a verification: parts as large as the search's, and none that it used where that is said."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from raymia.config import PlanConfig, SearchedPlans, StudyConfig
from raymia.errors import InputError
from raymia.records.plan import Role
from raymia.records.plan_choice import decided, plan_for
from raymia.study.finished import FinishedStudy
from raymia.study.verification import DISJOINT, REDRAWN, _plan
from tests.study.test_standing import study

RECORDS = 1797
ROWS = ({"setting": "none", "defense": "none"}, {"setting": "mixup alpha=0.1", "defense": "mixup", "mixup.alpha": 0.1})
FRESH = 12345


def searched(**plan: Any) -> FinishedStudy:
    config = StudyConfig(plan=PlanConfig.model_validate({"targets": 2, **plan}))
    return FinishedStudy("search", {"data": {"records": RECORDS}}, config, ROWS)


def positions(plan: PlanConfig, seed: int) -> NDArray[np.int64]:
    return np.concatenate([plan_for(RECORDS, plan, seed, one).roles[r] for one in (0, 1) for r in _roles(plan, seed)])


def _roles(plan: PlanConfig, seed: int) -> list[Role]:
    return list(plan_for(RECORDS, plan, seed, 0).roles)


@pytest.mark.parametrize("reserve", [True, False])
def test_disjoint_is_also_from_the_defenders_part(reserve: bool) -> None:
    """DMP had a fifth part in the search; only mixup is verified."""
    search = searched(part_size=100, reserve=reserve)
    plan, said = _plan(search, 16, None)
    assert (said, plan.reserve) == (DISJOINT, reserve)
    assert not np.intersect1d(positions(search.config.plan, 0), positions(plan, FRESH)).size


@pytest.mark.parametrize("reserve", [True, False])
def test_members_are_as_many_as_in_the_search(reserve: bool) -> None:
    search = searched(reserve=reserve)
    plan, said = _plan(search, 16, None)
    assert said == REDRAWN
    sizes = [len(plan_for(RECORDS, one, 0, 0)[Role.TARGET_IN]) for one in (search.config.plan, plan)]
    assert sizes == [359 if reserve else 449] * 2


def test_a_verification_of_a_verification_does_not_say_that_its_records_are_new() -> None:
    first = SearchedPlans(seed=0, targets=2)
    search = searched(part_size=60, reserve=False, apart_from=first)
    plan, said = _plan(search, 16, None)
    assert (said, plan.apart_from) == (REDRAWN, first)
    before = positions(PlanConfig(part_size=60, targets=2, reserve=False), 0)
    assert not np.intersect1d(before, positions(plan, FRESH)).size


def test_a_studys_plan_says_whether_the_defender_has_a_part() -> None:
    """So that whoever reads its folder finds the same records, whatever settings were measured."""
    assert decided(PlanConfig(), True).reserve is True
    assert decided(PlanConfig(), False).reserve is False
    assert decided(PlanConfig(reserve=True), False).reserve is True
    with pytest.raises(InputError, match=r"plan\.reserve is false, and a defense of the space wants records"):
        decided(PlanConfig(reserve=False), True)
    assert study().config.plan.reserve is False
    assert study(plan__reserve=True).config.plan.reserve is True
