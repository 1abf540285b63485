"""What names a user's own model: its answers are what is kept of it."""

from pathlib import Path

import numpy as np
import pytest

from raymia.recipes.custom import CustomModelRecipe
from raymia.records import Records
from raymia.versions import VERSIONS
from tests.recipes.conftest import ground_of


@pytest.mark.parametrize("stage", sorted(VERSIONS))
def test_a_raised_version_of_what_its_answers_are_made_by_names_another_model(
    digits: Records, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def key() -> str:
        return CustomModelRecipe(ground_of(digits), "own:fit", "0" * 64, np.arange(40), ("target", 0)).key

    before = key()
    monkeypatch.setitem(VERSIONS, stage, VERSIONS[stage] + 1)
    matters = stage in ("records", "models", "training", "signals")
    assert (key() != before) == matters
    assert Path(f"answers/{key()}").parts[0] == "answers"
