"""The conformance suite of state stores, run for this one: all that a package of its own needs to do."""

from pathlib import Path

import pytest

from tests.conformance.state import *  # noqa: F403 - every case of the suite
from tests.conformance.state import Harness, Setup


@pytest.fixture
def state_harness(tmp_path: Path) -> Harness:
    """How this store is opened, and what it promises beyond the contract."""
    return Harness("state.folder", Setup({"path": str(tmp_path / "data")}, durable=True))
