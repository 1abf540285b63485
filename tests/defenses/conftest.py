"""Studies' fixtures, for defenses that are tried from end to end."""

from tests.recipes.conftest import digits, store

__all__ = ["digits", "store"]
