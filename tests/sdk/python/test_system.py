"""Secrets, metadata, health and shutdown by the official Python SDK, blocking and asynchronous."""

from __future__ import annotations

import socket

import grpc
import pytest


def test_a_secret_is_read(sdk):
    """An open secret is read by its name."""
    client = sdk("orders")
    assert client.get_secret("vault", "key").secret == {"key": "of-orders"}
    assert client.get_secret("vault", "db:user").secret == {"db:user": "u"}


def test_all_secrets_are_those_that_are_open(sdk):
    """A bulk get gives what the app may read and leaves the rest out."""
    assert sdk("orders").get_bulk_secret("vault").secrets == {"key": {"key": "of-orders"}, "db:user": {"db:user": "u"}}


@pytest.mark.parametrize(
    ("store", "name", "code"),
    [
        ("vault", "db:password", grpc.StatusCode.PERMISSION_DENIED),
        ("vault", "absent", grpc.StatusCode.INTERNAL),
        ("stock-vault", "key", grpc.StatusCode.INVALID_ARGUMENT),
        ("nowhere", "key", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_what_cannot_be_read_is_an_error(sdk, store, name, code):
    """A denied secret, an absent one and a store of another app have Dapr's codes."""
    with pytest.raises(grpc.RpcError) as refused:
        sdk("orders").get_secret(store, name)
    assert refused.value.code() is code


def test_apps_do_not_see_each_others_secrets(sdk):
    """Each app reads the store that is open to it, and not the other's."""
    assert sdk("stock").get_secret("stock-vault", "key").secret == {"key": "of-stock"}
    with pytest.raises(grpc.RpcError) as refused:
        sdk("stock").get_secret("vault", "key")
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_metadata(sdk):
    """Metadata tells the own id, the components in sight with their capabilities, and what was set."""
    client = sdk("orders")
    client.set_metadata("note", "set by orders")
    found = client.get_metadata()
    assert found.application_id == "orders"
    assert found.extended_metadata["note"] == "set by orders"
    assert found.extended_metadata["daprRuntimeVersion"]
    components = {item.name: item for item in found.registered_components}
    assert {"statestore", "memory", "vault"} <= set(components)
    assert not {"stockonly", "stock-vault"} & set(components)
    assert components["statestore"].type == "state.sqlite"
    assert {"ETAG", "TRANSACTIONAL", "TTL", "ACTOR"} <= set(components["statestore"].capabilities)

    theirs = sdk("stock").get_metadata()
    assert theirs.application_id == "stock"
    assert "note" not in theirs.extended_metadata


def test_health_and_wait(sdk, world):
    """The SDK's wait for the instance returns, whatever the token; a closed port makes it time out."""
    from dapr.clients.health import DaprHealth

    client = sdk("orders")
    DaprHealth.wait_for_sidecar()
    with pytest.warns(DeprecationWarning, match="wait method"):
        client.wait(5)
    with socket.create_connection(("127.0.0.1", world.instance.grpc_port)):
        pass


def test_a_wrong_token_is_refused(sdk):
    """A token of nobody is UNAUTHENTICATED, with a message that says what to do."""
    client = sdk("orders", token="nobody's")
    with pytest.raises(grpc.RpcError) as refused:
        client.get_metadata()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "dapr-api-token" in refused.value.details()


def test_shutdown_leaves_the_instance_running(sdk, world):
    """Shutdown by one app of a shared instance succeeds, and the instance goes on for all."""
    sdk("orders").shutdown()
    assert world.instance.process.poll() is None
    assert sdk("orders").get_metadata().application_id == "orders"
    assert sdk("stock").get_metadata().application_id == "stock"
