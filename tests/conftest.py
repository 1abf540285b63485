"""What all tests share: one thread a process, and no test that quietly does not run."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

# A Ray of the tests neither writes a token into the home folder nor expects one there.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models train on one thread, and threads that wait for each other cost tiny nets ten times their work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """In CI a skipped test is a failed one, unless it needs a GPU."""
    report = yield
    if (
        os.environ.get("CI")
        and report.skipped
        and not hasattr(report, "wasxfail")
        and not item.get_closest_marker("gpu")
    ):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report
