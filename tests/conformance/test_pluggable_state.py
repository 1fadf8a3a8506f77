"""A state store in JavaScript, behind a socket, passes every case of the state suite."""
# ruff: noqa: F403 - every case of the suite

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from dapr_shared.components.catalog import Catalog
from dapr_shared.components.pluggable.sockets import FOLDER_VARIABLE, pluggable_row
from tests.conformance.state import *
from tests.conformance.state import Harness, Setup
from tests.support.pluggable import pluggable_server


@pytest.fixture(scope="module")
def sockets():
    """A folder with one socket; its path must be short, as a socket's must."""
    folder = Path(tempfile.mkdtemp(prefix="plug-"))
    try:
        with pluggable_server(folder / "my-store.sock"):
            yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def state_harness(sockets, tmp_path, monkeypatch):
    """The store, each time with another space at the program."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(sockets))
    return Harness(
        "state.my-store",
        Setup({"space": str(tmp_path)}, durable=True),
        Catalog(installed=None, pluggable=pluggable_row),
    )
