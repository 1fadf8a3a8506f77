"""Locks through the real process, over HTTP and gRPC; attacks of one app on another's locks."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from dapr_shared._proto import runtime_pb
from tests.support.calls import call, grpc_channel
from tests.support.instance import Instance, app, component, running, token_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def instance(folder: Path, *flags: str) -> Iterator[Instance]:
    """Two apps; the embedded `lockstore` for both, one more for `stock`."""
    resources = [app("orders"), app("stock"), component("extra", "lock.in-memory", scopes=["stock"])]
    with running(
        folder,
        *flags,
        resources=[*resources, component("lockstore", "lock.sqlite", connectionString=str(folder / "l.db"))],
    ) as made:
        yield made


def lock(made: Instance, who: str = "orders", store: str = "lockstore", **body: Any) -> Any:
    given = {"resourceId": "printer", "lockOwner": "me", "expiryInSeconds": 60, **body}
    return made.ask("POST", f"/v1.0-alpha1/lock/{store}", json.dumps(given).encode(), app=who)


def unlock(made: Instance, who: str = "orders", store: str = "lockstore", **body: Any) -> Any:
    given = {"resourceId": "printer", "lockOwner": "me", **body}
    return made.ask("POST", f"/v1.0-alpha1/unlock/{store}", json.dumps(given).encode(), app=who)


def test_over_http(tmp_path):
    """Taken, refused, belongs to others, freed, gone: Dapr's answers with their numbers."""
    with instance(tmp_path) as made:
        assert (lock(made).status, lock(made).json()) == (200, {"success": False})
        assert unlock(made, lockOwner="other").json() == {"status": 2}
        assert (unlock(made).status, unlock(made).json()) == (200, {"status": 1})
        body = b'{"resource_id": "printer", "lock_owner": "me", "expiry_in_seconds": 5}'
        assert made.ask("POST", "/v1.0-alpha1/lock/lockstore", body, app="orders").json() == {"success": True}
        assert unlock(made).json() == {"status": 0}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"expiryInSeconds": 0}, 400, "ERR_MALFORMED_REQUEST"),
        ({"resourceId": ""}, 400, "ERR_MALFORMED_REQUEST"),
        ({"lockOwner": ""}, 400, "ERR_MALFORMED_REQUEST"),
        ({"store": "nostore"}, 400, "ERR_LOCK_STORE_NOT_FOUND"),
        ({"store": "extra"}, 400, "ERR_LOCK_STORE_NOT_FOUND"),
        ({"resourceId": "a||b"}, 500, "ERR_TRY_LOCK"),
    ],
)
def test_errors(tmp_path, body, status, code):
    """What is missing, unknown, out of scope or forged is refused with Dapr's code."""
    with instance(tmp_path) as made:
        answer = lock(made, **body)
        assert (answer.status, answer.json()["errorCode"]) == (status, code)


def test_apps_have_locks_of_their_own(tmp_path):
    """Under one name each app has its own lock; with the same owner's name `stock` can neither see nor free that of `orders`."""
    with instance(tmp_path) as made:
        assert lock(made).json() == {"success": True}
        assert unlock(made, "stock").json() == {"status": 1}
        assert lock(made, "stock").json() == {"success": True}
        assert unlock(made, "stock").json() == {"status": 0}
        for forged in ("orders||printer", "lock||orders||printer"):
            assert unlock(made, "stock", resourceId=forged).json()["errorCode"] == "ERR_UNLOCK"
        assert lock(made).json() == {"success": False}


def test_a_lock_outlives_a_killed_process(tmp_path):
    """After a crash the lock is still held."""
    with instance(tmp_path) as made:
        lock(made)
        made.process.kill()
        made.wait()
    with instance(tmp_path) as made:
        assert lock(made, lockOwner="other").json() == {"success": False}


@pytest.mark.parametrize("engine", ["http2", "aio"])
def test_over_grpc(tmp_path, engine):
    """The same over gRPC."""
    with instance(tmp_path, f"--grpc-engine={engine}") as made, grpc_channel(made.grpc) as channel:

        def rpc(name: str, request: Any, who: str = "orders") -> Any:
            return call(channel, name, request, [("dapr-api-token", token_of(who))])

        take = runtime_pb.TryLockRequest(store_name="lockstore", resource_id="r", lock_owner="me", expiry_in_seconds=60)
        assert runtime_pb.TryLockResponse.FromString(rpc("TryLockAlpha1", take).data).success
        assert not runtime_pb.TryLockResponse.FromString(rpc("TryLockAlpha1", take).data).success
        free = runtime_pb.UnlockRequest(store_name="lockstore", resource_id="r", lock_owner="me")
        assert runtime_pb.UnlockResponse.FromString(rpc("UnlockAlpha1", free, "stock").data).status == 1
        assert runtime_pb.UnlockResponse.FromString(rpc("UnlockAlpha1", free).data).status == 0
        free.store_name = "extra"
        assert rpc("UnlockAlpha1", free).code is grpc.StatusCode.INVALID_ARGUMENT
