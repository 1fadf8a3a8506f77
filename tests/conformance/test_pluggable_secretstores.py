"""A secret store in JavaScript, behind a socket, passes every case of the suite of secret stores."""
# ruff: noqa: F403 - every case of the suite

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest

from dapr_shared.components.catalog import Catalog
from dapr_shared.components.pluggable.sockets import FOLDER_VARIABLE, pluggable_row
from tests.conformance.secretstores import *
from tests.conformance.secretstores import Harness, Setup
from tests.support.pluggable import pluggable_server


@pytest.fixture(scope="module")
def sockets():
    """A folder with one socket; its path must be short, as a socket's must."""
    folder = Path(tempfile.mkdtemp(prefix="plug-"))
    try:
        with pluggable_server(folder / "my-vault.sock"):
            yield folder
    finally:
        shutil.rmtree(folder)


SECRETS = {"token": {"token": "t-1"}, "db": {"user": "u", "password": "p"}}


@pytest.fixture
def secret_harness(sockets, monkeypatch):
    """The store, with two secrets at the program."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(sockets))
    setup = Setup({"secrets": json.dumps(SECRETS)}, secrets=SECRETS)
    return Harness("secretstores.my-vault", setup, Catalog(installed=None, pluggable=pluggable_row))
