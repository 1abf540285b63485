"""Opacus, when it is first needed: it takes a second to import, and leaves a handler on the root logger."""

import importlib
import logging
from typing import Any


def opacus_module(name: str) -> Any:
    """The module `opacus.<name>`, imported without what Opacus does to everybody's logging."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    module = importlib.import_module(f"opacus.{name}")
    root.handlers[:] = handlers
    return module
