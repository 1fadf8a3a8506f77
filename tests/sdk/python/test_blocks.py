"""Configuration, locks and output bindings by the official Python SDK."""

from __future__ import annotations

import uuid

import pytest
from dapr.clients.grpc._response import UnlockResponseStatus

from dapr_shared.contracts.configuration import ConfigurationItem
from tests.support.block_apps import write_item


def test_configuration(sdk, world):
    """Items are read with their versions; an id that nobody has cannot be ended.

    The SDK sends its token with unary calls alone: subscribing needs a listener of the app's own.
    """
    client = sdk("orders")
    key = uuid.uuid4().hex
    file = world.instance.folder / "configuration.db"
    write_item(file, key, ConfigurationItem("blue", "7"))
    found = client.get_configuration(store_name="configstore", keys=[key])
    assert (found.items[key].value, found.items[key].version) == ("blue", "7")
    assert not client.unsubscribe_configuration(store_name="configstore", id="no-such-id")


@pytest.mark.filterwarnings("ignore:The Distributed Lock API:UserWarning")
def test_lock(sdk):
    """A lock is taken once, freed by its owner, and gone then."""
    client = sdk("orders")
    resource = uuid.uuid4().hex
    assert client.try_lock("lockstore", resource, "me", expiry_in_seconds=60).success
    assert not client.try_lock("lockstore", resource, "me", expiry_in_seconds=60).success
    assert client.unlock("lockstore", resource, "you").status is UnlockResponseStatus.lock_belongs_to_others
    assert client.unlock("lockstore", resource, "me").status is UnlockResponseStatus.success
    assert client.unlock("lockstore", resource, "me").status is UnlockResponseStatus.lock_does_not_exist


@pytest.mark.parametrize("data", ["a text of words", b"raw \xff bytes"])
def test_binding(sdk, data):
    """A file is created and read through an output binding."""
    client = sdk("orders")
    name = uuid.uuid4().hex
    client.invoke_binding("files", "create", data, {"fileName": name})
    found = client.invoke_binding("files", "get", "", {"fileName": name})
    assert found.data == (data if isinstance(data, bytes) else data.encode())
