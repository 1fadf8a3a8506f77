"""For all suites: which tests failed, as a list that CI can run again; what tests have measured and accounted for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, object], None]:
    """Tell what a test has measured, in words; it is said at the end of the run."""
    return lambda what, value: request.node.user_properties.append((what, value))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add a failed test to the file that FAILED_TESTS names, once for each."""
    file = os.environ.get("FAILED_TESTS", "")
    if file and report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        path = Path(file)
        known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if report.nodeid not in known:
            path.write_text("\n".join([*known, report.nodeid]) + "\n", encoding="utf-8")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what backends in trouble acknowledged, delivered, duplicated and lost (`tests/support/accounts.py`), and what was measured."""
    from tests.support.accounts import PROPERTY

    accounts = [
        f"{report.nodeid.rpartition('/')[2]}: {text}"
        for kind in ("passed", "failed")
        for report in terminalreporter.getreports(kind)
        if report.when == "call"
        for name, text in report.user_properties
        if name == PROPERTY
    ]
    if accounts:
        terminalreporter.section("accounts of backends in trouble")
        for line in sorted(accounts):
            terminalreporter.line(line)
    for report in terminalreporter.getreports("passed"):
        for what, value in report.user_properties:
            if report.when == "call" and what != PROPERTY:
                terminalreporter.line(f"{report.nodeid}: {what} {value}")
