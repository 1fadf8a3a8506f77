"""State over raw HTTP: every row of the reference (http-api §4), with its error bodies."""

from __future__ import annotations

import json
import time
import uuid

import pytest

from tests.support.instance import app, component, running

STORES = pytest.mark.parametrize("store", ["sqlite", "memory"])


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    resources = [
        app("orders"),
        app("stock"),
        app("bare", namespace="empty"),
        component("sqlite", "state.sqlite", connectionString=str(folder / "state.db")),
        component("memory", "state.in-memory"),
        component("by-name", "state.in-memory", keyPrefix="name"),
        component("no-prefix", "state.in-memory", keyPrefix="none"),
    ]
    with running(folder, resources=resources) as made:
        yield made


@pytest.fixture
def key() -> str:
    """A key of this test alone."""
    return uuid.uuid4().hex


def _save(instance, store: str, *items: dict, query: str = "", app_id: str = "orders"):
    return instance.ask("POST", f"/v1.0/state/{store}{query}", json.dumps(items).encode(), app=app_id)


def _get(instance, store: str, key: str, app_id: str = "orders"):
    return instance.ask("GET", f"/v1.0/state/{store}/{key}", app=app_id)


@STORES
@pytest.mark.parametrize("verb", ["POST", "PUT"])
def test_save_and_get(instance, store, key, verb):
    """POST and PUT save; GET gives the JSON as it is stored, its etag and the content type."""
    body = json.dumps([{"key": key, "value": {"a": [1, 2.5, "ü", None]}}]).encode()
    assert (instance.ask(verb, f"/v1.0/state/{store}", body, app="orders").status) == 204
    answer = _get(instance, store, key)
    assert (answer.status, answer.json()) == (200, {"a": [1, 2.5, "ü", None]})
    assert answer.header("content-type") == "application/json"
    assert answer.header("etag")


@STORES
@pytest.mark.parametrize("value", ['"text"', "1", "12345678901234567890", "true", "null", "[]", '""', '{"a":"||"}'])
def test_json_values(instance, store, key, value):
    """Every kind of JSON value is saved; a text keeps its quotes."""
    body = b'[{"key":"%s","value":%s}]' % (key.encode(), value.encode())
    assert instance.ask("POST", f"/v1.0/state/{store}", body, app="orders").status == 204
    answer = _get(instance, store, key)
    assert (answer.status, answer.body.decode()) == (200, value)


@STORES
def test_absent(instance, store, key):
    """An absent key is 204 without a body, and no error to delete."""
    answer = _get(instance, store, key)
    assert (answer.status, answer.body) == (204, b"")
    assert instance.ask("DELETE", f"/v1.0/state/{store}/{key}", app="orders").status == 204


@STORES
@pytest.mark.parametrize(
    "raw", ["a b", "ü/€", "a+b", "a%b", "ключ", "x" * 500, "a?b#c", "'; DROP TABLE state; --", "a|b", "|"]
)
def test_keys(instance, store, raw):
    """A key may hold anything but the separator, percent-encoded in the path."""
    from urllib.parse import quote

    assert _save(instance, store, {"key": raw, "value": raw}).status == 204
    answer = _get(instance, store, quote(raw, safe=""))
    assert (answer.status, answer.json()) == (200, raw)
    assert instance.ask("DELETE", f"/v1.0/state/{store}/{quote(raw, safe='')}", app="orders").status == 204
    assert _get(instance, store, quote(raw, safe="")).status == 204


def test_a_plus_in_a_path_is_a_space(instance):
    """Path parameters are query-unescaped, as in Dapr: a plus sign is a space."""
    assert _save(instance, "memory", {"key": "one two", "value": 1}).status == 204
    assert _get(instance, "memory", "one+two").status == 200
    assert instance.ask("GET", "/v1.0/state/memory/a%zz", app="orders").status == 400


@STORES
@pytest.mark.parametrize("body", [b"[]", b"null"])
def test_nothing_to_save(instance, store, body):
    """An empty list is 204."""
    assert instance.ask("POST", f"/v1.0/state/{store}", body, app="orders").status == 204


@STORES
def test_etags(instance, store, key):
    """The present etag saves and deletes; another is 409 with Dapr's code, and changes nothing."""
    _save(instance, store, {"key": key, "value": 1})
    first = _get(instance, store, key).header("etag")
    options = {"concurrency": "first-write", "consistency": "strong"}
    assert _save(instance, store, {"key": key, "value": 2, "etag": first, "options": options}).status == 204
    answer = _save(instance, store, {"key": key, "value": 3, "etag": first})
    assert (answer.status, answer.code) == (409, "ERR_STATE_SAVE")
    assert f"failed saving state in state store {store}: possible etag mismatch" in answer.json()["message"]
    target = f"/v1.0/state/{store}/{key}"
    answer = instance.ask("DELETE", target, headers=[("if-match", first)], app="orders")
    assert (answer.status, answer.code) == (409, "ERR_STATE_DELETE")
    assert f"failed deleting state with key {key}: possible etag mismatch" in answer.json()["message"]
    present = _get(instance, store, key)
    assert present.json() == 2
    headers = [("if-match", present.header("etag"))]
    answer = instance.ask(
        "DELETE", f"{target}?concurrency=first-write&consistency=strong", headers=headers, app="orders"
    )
    assert answer.status == 204
    assert _get(instance, store, key).status == 204


@STORES
def test_first_write_without_an_etag(instance, store, key):
    """`first-write` without an etag saves a key that is new and refuses one that is there."""
    item = {"key": key, "value": 1, "options": {"concurrency": "first-write"}}
    assert _save(instance, store, item).status == 204
    assert _save(instance, store, item).status == 409


@STORES
def test_time_to_live(instance, store, key):
    """`ttlInSeconds` as metadata of an item or of the query ends a value; the answer says when."""
    _save(instance, store, {"key": key, "value": 1, "metadata": {"ttlInSeconds": "1"}})
    _save(instance, store, {"key": key + "-q", "value": 1, "metadata": {"ttlInSeconds": "1000"}},
          query="?metadata.ttlInSeconds=1")  # fmt: skip
    answer = _get(instance, store, key)
    assert answer.status == 200
    assert answer.header("metadata.ttlexpiretime")
    deadline = time.monotonic() + 10
    while _get(instance, store, key).status == 200 or _get(instance, store, key + "-q").status == 200:
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("store", "ttl"),
    [
        ("sqlite", "x"),
        ("sqlite", "1.5"),
        ("sqlite", "99999999999999"),
        ("memory", "x"),
        ("memory", "1.5"),
    ],
)
def test_a_wrong_time_to_live(instance, store, key, ttl):
    """A time to live that is none is refused, and nothing is saved."""
    answer = _save(instance, store, {"key": key, "value": 1, "metadata": {"ttlInSeconds": ttl}})
    assert (answer.status, answer.code) == (500, "ERR_STATE_SAVE")
    assert _get(instance, store, key).status == 204


@STORES
def test_bulk_get(instance, store, key):
    """A bulk get gives one item a key, in order; an absent key has no data."""
    _save(instance, store, {"key": key + "1", "value": "one"}, {"key": key + "2", "value": {"n": 2}})
    body = json.dumps({"keys": [key + "2", key + "0", key + "1"], "parallelism": 2}).encode()
    for verb in ("POST", "PUT"):
        answer = instance.ask(verb, f"/v1.0/state/{store}/bulk", body, app="orders")
        assert answer.status == 200
        items = answer.json()
        assert [item["key"] for item in items] == [key + "2", key + "0", key + "1"]
        assert items[0]["data"] == {"n": 2}
        assert items[0]["etag"]
        assert items[1] == {"key": key + "0"}
        assert items[2]["data"] == "one"
    assert instance.ask("POST", f"/v1.0/state/{store}/bulk", b'{"keys":[]}', app="orders").json() == []


@STORES
def test_transactions(instance, store, key):
    """Upserts and deletes are done together; with a wrong etag none is, and the error is the transaction's."""
    _save(instance, store, {"key": key + "old", "value": 0})
    target = f"/v1.0/state/{store}/transaction"

    def ask(*operations: dict):
        return instance.ask("POST", target, json.dumps({"operations": operations}).encode(), app="orders")

    assert ask(
        {"operation": "upsert", "request": {"key": key + "new", "value": 1}},
        {"operation": "delete", "request": {"key": key + "old"}},
    ).status == 204  # fmt: skip
    assert _get(instance, store, key + "new").json() == 1
    assert _get(instance, store, key + "old").status == 204
    answer = ask(
        {"operation": "upsert", "request": {"key": key + "x", "value": 1}},
        {"operation": "upsert", "request": {"key": key + "new", "value": 2, "etag": "12345"}},
    )
    assert (answer.status, answer.code) == (500, "ERR_STATE_TRANSACTION")
    assert _get(instance, store, key + "x").status == 204
    assert ask().status == 204
    answer = ask({"operation": "merge", "request": {"key": key, "value": 1}})
    assert (answer.status, answer.code) == (400, "ERR_NOT_SUPPORTED_STATE_OPERATION")
    assert answer.json()["message"] == "operation type merge not supported"


MALFORMED = "ERR_MALFORMED_REQUEST"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("memory", b""),
        ("memory", b"{"),
        ("memory", b'{"key":"a"}'),
        ("memory", b'[{"key":1,"value":1}]'),
        ("memory", b'[{"key":"a","value":}]'),
        ("memory", b'[{"key":"a","value":"\xff"}]'),
        ("memory", b'[{"value":1}]'),
        ("memory", b'[{"key":"","value":1}]'),
        ("memory", b'[{"key":"a","value":1,"metadata":{"x":1}}]'),
        ("memory", b"[" * 100_000),
        ("memory/bulk", b"[]"),
        ("memory/bulk", b""),
        ("memory/transaction", b"[]"),
        ("memory/transaction", b'{"operations":{}}'),
    ],
)
def test_malformed_bodies(instance, target, body):
    """A body that is not of the documented form is 400 and says why."""
    answer = instance.ask("POST", f"/v1.0/state/{target}", body, app="orders")
    assert (answer.status, answer.code) == (400, MALFORMED), answer
    assert answer.json()["message"]


def test_error_bodies(instance):
    """The bodies of errors are Dapr's, byte for byte where the reference gives them."""
    answer = _get(instance, "nowhere", "k")
    assert (answer.status, answer.json()) == (
        400,
        {
            "errorCode": "ERR_STATE_STORE_NOT_FOUND",
            "message": "state store nowhere is not found",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "domain": "dapr.io",
                    "reason": "DAPR_STATE_NOT_FOUND",
                    "metadata": {"appID": "orders"},
                }
            ],
        },
    )
    answer = _get(instance, "statestore", "k", app_id="bare")
    assert (answer.status, answer.json()["errorCode"]) == (500, "ERR_STATE_STORE_NOT_CONFIGURED")
    assert answer.json()["message"] == "state store statestore is not configured"
    assert answer.json()["details"][0]["reason"] == "DAPR_STATE_NOT_CONFIGURED"
    answer = _get(instance, "memory", "a||b")
    assert (answer.status, answer.json()) == (
        400,
        {
            "errorCode": MALFORMED,
            "message": "input key/keyPrefix 'a||b' can't contain '||'",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "field_violations": [
                        {"field": "a||b", "description": "input key/keyPrefix 'a||b' can't contain '||'"}
                    ],
                },
                {
                    "@type": "type.googleapis.com/google.rpc.ResourceInfo",
                    "resource_type": "state",
                    "resource_name": "memory",
                    "owner": "",
                    "description": "",
                },
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "domain": "dapr.io",
                    "reason": "DAPR_STATE_ILLEGAL_KEY",
                    "metadata": None,
                },
            ],
        },
    )
    answer = instance.ask("POST", "/v1.0-alpha1/state/memory/query", b"{}", app="orders")
    assert (answer.status, answer.json()["errorCode"]) == (500, "ERR_STATE_STORE_NOT_SUPPORTED")
    assert answer.json()["message"] == "state store does not support querying"
    assert answer.json()["details"][-1]["reason"] == "DAPR_STATE_QUERYING_NOT_SUPPORTED"


@pytest.mark.parametrize(
    ("option", "value"), [("concurrency", "sometimes"), ("consistency", "perhaps"), ("concurrency", "First-Write")]
)
def test_unknown_options(instance, key, option, value):
    """An unknown concurrency or consistency is refused and nothing is saved."""
    answer = _save(instance, "memory", {"key": key, "value": 1, "options": {option: value}})
    assert (answer.status, answer.code) == (500, "ERR_STATE_SAVE")
    assert _get(instance, "memory", key).status == 204


def test_key_prefixes(instance, key):
    """With `keyPrefix: name` or `none` apps share their keys, because the component says so."""
    for store in ("by-name", "no-prefix"):
        assert _save(instance, store, {"key": key, "value": store}).status == 204
        assert _get(instance, store, key, app_id="stock").json() == store
    assert _save(instance, "memory", {"key": key, "value": 1}).status == 204
    assert _get(instance, "memory", key, app_id="stock").status == 204


@pytest.mark.parametrize(
    ("method", "target"),
    [("POST", "/v1.0/state/memory/key"), ("DELETE", "/v1.0/state/memory"), ("PATCH", "/v1.0/state/memory")],
)
def test_other_verbs_are_no_routes(instance, method, target):
    """A verb that a route does not have is no route: it ends as an invocation without a target."""
    answer = instance.ask(method, target, b"", app="orders")
    assert (answer.status, answer.code) == (404, "ERR_DIRECT_INVOKE")


def test_paths_are_cleaned_before_routing(instance, key):
    """Doubled slashes, dots and a slash at the end are taken off before the route is looked for."""
    assert _save(instance, "memory", {"key": key, "value": 1}).status == 204
    for target in (
        f"//v1.0//state/memory/{key}",
        f"/v1.0/./state/x/../memory/{key}",
        f"/v1.0/state/memory/{key}/",
        f"/v1.0/state/memory/{key}?x=1",
    ):
        assert instance.ask("GET", target, app="orders").status == 200, target
