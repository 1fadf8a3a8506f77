"""State by the official Python SDK, blocking and asynchronous."""

from __future__ import annotations

import json
import time
import uuid

import grpc
import pytest
from dapr.clients.exceptions import DaprInternalError
from dapr.clients.grpc._request import TransactionalStateOperation, TransactionOperationType
from dapr.clients.grpc._state import Concurrency, Consistency, StateItem, StateOptions

STORES = pytest.mark.parametrize("store", ["statestore", "memory"])


@pytest.fixture
def key() -> str:
    """A key of this test alone."""
    return uuid.uuid4().hex


@STORES
def test_a_value_is_saved_read_and_deleted(sdk, store, key):
    """A saved value is read back as bytes with an etag, and gone after its delete."""
    client = sdk("orders")
    client.save_state(store, key, "value")
    found = client.get_state(store, key)
    assert found.data == b"value"
    assert found.etag
    client.delete_state(store, key)
    assert client.get_state(store, key).data == b""
    client.delete_state(store, key)


@STORES
def test_bytes_and_json_come_back_as_they_were(sdk, store, key):
    """Any bytes pass over gRPC unchanged."""
    client = sdk("orders")
    for value in (bytes(range(256)), json.dumps({"a": [1, None, "ü"]}).encode(), b"x" * 1_000_000):
        client.save_state(store, key, value)
        assert client.get_state(store, key).data == value


def test_an_absent_key_is_empty(sdk, key):
    """An absent key is no error: empty data and no etag."""
    found = sdk("orders").get_state("statestore", key)
    assert (found.data, found.etag) == (b"", "")


@STORES
def test_bulk(sdk, store, key):
    """Many values are saved at once and read at once, absent keys among them."""
    client = sdk("orders")
    client.save_bulk_state(store, [StateItem(key=f"{key}-{n}", value=f"v{n}") for n in range(5)])
    found = client.get_bulk_state(store, [f"{key}-{n}" for n in range(6)], parallelism=3)
    assert {item.key: item.data for item in found.items} == {
        **{f"{key}-{n}": f"v{n}".encode() for n in range(5)},
        f"{key}-5": b"",
    }
    assert all(not item.error for item in found.items)


@STORES
def test_etags_and_first_write(sdk, store, key):
    """A save or delete with an old etag is refused with ABORTED, one with the present etag is done."""
    client = sdk("orders")
    client.save_state(store, key, "one")
    old = client.get_state(store, key).etag
    client.save_state(store, key, "two", etag=old, options=StateOptions(concurrency=Concurrency.first_write))
    # The asynchronous client wraps the error of a save, and that of no other call.
    with pytest.raises((grpc.RpcError, DaprInternalError)) as refused:
        client.save_state(store, key, "three", etag=old)
    error = refused.value
    assert _code(error if isinstance(error, grpc.RpcError) else error.__cause__) is grpc.StatusCode.ABORTED
    with pytest.raises(grpc.RpcError) as refused:
        client.delete_state(store, key, etag=old)
    assert _code(refused.value) is grpc.StatusCode.ABORTED
    present = client.get_state(store, key)
    assert present.data == b"two"
    client.delete_state(store, key, etag=present.etag, options=StateOptions(consistency=Consistency.strong))
    assert client.get_state(store, key).data == b""


@STORES
def test_a_transaction_is_all_or_nothing(sdk, store, key):
    """All operations of a transaction are done, or none where one fails."""
    client = sdk("orders")
    client.save_state(store, f"{key}-old", "old")
    upsert, delete = TransactionOperationType.upsert, TransactionOperationType.delete
    client.execute_state_transaction(
        store,
        [
            TransactionalStateOperation(key=f"{key}-new", data="new", operation_type=upsert),
            TransactionalStateOperation(key=f"{key}-old", data=b"", operation_type=delete),
        ],
    )
    assert client.get_state(store, f"{key}-new").data == b"new"
    assert client.get_state(store, f"{key}-old").data == b""
    with pytest.raises(grpc.RpcError):
        client.execute_state_transaction(
            store,
            [
                TransactionalStateOperation(key=f"{key}-x", data="x", operation_type=upsert),
                TransactionalStateOperation(key=f"{key}-new", data="y", etag="99999", operation_type=upsert),
            ],
        )
    assert client.get_state(store, f"{key}-x").data == b""


@STORES
def test_time_to_live(sdk, store, key):
    """A value with `ttlInSeconds` is gone after it."""
    client = sdk("orders")
    client.save_state(store, key, "brief", state_metadata={"ttlInSeconds": "1"})
    assert client.get_state(store, key).data == b"brief"
    deadline = time.monotonic() + 10
    while client.get_state(store, key).data:
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.1)


@STORES
def test_queries_are_not_supported(sdk, store):
    """A query on a store without them is answered with the documented error."""
    with pytest.warns(UserWarning, match="Alpha version"), pytest.raises(grpc.RpcError) as refused:
        sdk("orders").query_state(store, json.dumps({"filter": {}}))
    assert _code(refused.value) is grpc.StatusCode.INTERNAL
    assert refused.value.details() == "state store does not support querying"
    assert refused.value.error_code() == "DAPR_STATE_QUERYING_NOT_SUPPORTED"


def test_errors_have_details(sdk, key):
    """An unknown store is INVALID_ARGUMENT with Dapr's reason, which the SDK reads from the details."""
    with pytest.raises(grpc.RpcError) as refused:
        sdk("orders").get_state("nowhere", key)
    assert _code(refused.value) is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.error_code() == "DAPR_STATE_NOT_FOUND"
    with pytest.raises(grpc.RpcError) as refused:
        sdk("orders").get_state("statestore", f"stock||{key}")
    assert refused.value.error_code() == "DAPR_STATE_ILLEGAL_KEY"
    assert refused.value.status_details().resource_info["resource_name"] == "statestore"


@STORES
def test_apps_do_not_see_each_others_state(sdk, store, key):
    """Two apps with one key in one store have a value each; neither reads or deletes the other's."""
    orders = sdk("orders")
    stock = sdk("stock")
    orders.save_state(store, key, "of orders")
    assert stock.get_state(store, key).data == b""
    stock.delete_state(store, key)
    stock.save_state(store, key, "of stock")
    assert orders.get_state(store, key).data == b"of orders"
    assert stock.get_state(store, key).data == b"of stock"
    assert [item.data for item in stock.get_bulk_state(store, [key]).items] == [b"of stock"]
    orders.delete_state(store, key)
    assert stock.get_state(store, key).data == b"of stock"


def test_a_scoped_store_is_seen_by_its_app_alone(sdk, key):
    """A component with scopes is for the apps in them; for others there is none."""
    sdk("stock").save_state("stockonly", key, "x")
    with pytest.raises(grpc.RpcError) as refused:
        sdk("orders").get_state("stockonly", key)
    assert refused.value.error_code() == "DAPR_STATE_NOT_FOUND"


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    return error.code()
