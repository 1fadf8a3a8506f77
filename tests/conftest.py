"""For all suites: which tests failed, as a list that CI can run again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add a failed test to the file that FAILED_TESTS names, once for each."""
    file = os.environ.get("FAILED_TESTS", "")
    if file and report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        path = Path(file)
        known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if report.nodeid not in known:
            path.write_text("\n".join([*known, report.nodeid]) + "\n", encoding="utf-8")
