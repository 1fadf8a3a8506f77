"""A binding in JavaScript, behind a socket, passes every case of the suite of bindings, in both directions."""
# ruff: noqa: F403 - every case of the suite

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from dapr_shared.components.catalog import Catalog
from dapr_shared.components.pluggable.sockets import FOLDER_VARIABLE, pluggable_row
from dapr_shared.contracts.bindings import BindingRequest
from tests.conformance.bindings import *
from tests.conformance.bindings import Harness, Setup
from tests.support.pluggable import pluggable_server


@pytest.fixture(scope="module")
def sockets():
    """A folder with one socket; its path must be short, as a socket's must."""
    folder = Path(tempfile.mkdtemp(prefix="plug-"))
    try:
        with pluggable_server(folder / "my-source.sock"):
            yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def binding_harness(sockets, tmp_path, monkeypatch):
    """The binding, each time with another space at the program."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(sockets))

    async def emit(binding):
        await binding.invoke(BindingRequest("emit", b"1"))

    setup = Setup({"space": str(tmp_path)}, emit=emit, keeps_events=True, example=("echo", b"x", {}))
    return Harness("bindings.my-source", setup, Catalog(installed=None, pluggable=pluggable_row))
