"""Records for what is put together of a study without running it."""

from tests.recipes.conftest import digits

__all__ = ["digits"]
