"""Definitions: which metadata blocks read, what an open component depends on."""

from __future__ import annotations

import pytest

from dapr_shared.components.catalog import block_of
from dapr_shared.components.definition import find_shared_groups
from dapr_shared.contracts.settings import SettingError
from tests.support.component_fakes import define


@pytest.mark.parametrize(
    ("component_type", "block"),
    [
        ("state.sqlite", "state"),
        ("Bindings.aws.S3", "bindings"),
        ("secretstores.local.file", "secretstores"),
        ("middleware.http.bearer", "middleware.http"),
        ("middleware.http", "middleware"),
        ("", ""),
    ],
)
def test_blocks(component_type, block):
    """The block is the first word of a type, but for HTTP middleware."""
    assert block_of(component_type) == block


@pytest.mark.parametrize(
    ("component_type", "names"),
    [
        ("state.redis", {"keyprefix", "actorstatestore", "outboxpublishtopic"}),
        ("STATE.redis", {"keyprefix", "actorstatestore", "outboxpublishtopic"}),
        ("lock.redis", {"keyprefix"}),
        ("pubsub.redis", {"consumerid", "publishingscopes"}),
        ("bindings.aws.s3", {"direction", "route"}),
        ("middleware.http.wasm", {"strictsandbox"}),
        ("secretstores.local.file", set()),
    ],
)
def test_runtime_metadata(component_type, names):
    """A block gets exactly the metadata that Dapr's runtime reads for it, names in lower case."""
    values = {
        name: name
        for name in [
            "KeyPrefix",
            "actorStateStore",
            "outboxPublishTopic",
            "consumerID",
            "publishingScopes",
            "direction",
            "Route",
            "strictSandbox",
            "redisHost",
        ]
    }
    found = define("c", values, type=component_type).runtime_metadata(values)
    assert set(found) == names
    assert all(value.lower() == name for name, value in found.items())


def test_opening_key():
    """Who sees a component, and how errors of its start count, do not make it another open component."""
    one = define("c", {"x": "1"})
    same = define("c", {"x": "1"}, file="2.yaml", scopes=("a",), ignore_errors=True, init_timeout=9.0, type="FAKE.one")
    assert one.opening_key == same.opening_key
    assert one.opening_key != define("c", {"x": "2"}).opening_key
    assert one.opening_key != define("c", {"x": "1"}, namespace="other").opening_key


@pytest.mark.parametrize(
    ("value", "rendered", "expected"),
    [("Orders", "Orders", "orders"), ("NONE", "NONE", "none"), ("{appID}", "Orders", "Orders"), ("x-{appID}", "x-A", "x-A")],
)  # fmt: skip
def test_key_prefixes(value, rendered, expected):
    """A prefix is in lower case, as in daprd, but not one that names the app: ids may differ in case alone."""
    definition = define("c", {"KeyPrefix": value}, type="state.redis")
    assert definition.runtime_metadata({"KeyPrefix": rendered}) == {"keyprefix": expected}


@pytest.mark.parametrize("kind", ["state.redis", "lock.redis"])
def test_a_prefix_has_no_separator(kind):
    """A prefix with the separator in it is refused, as daprd refuses it: it could lead to another app's keys."""
    definition = define("c", {"keyPrefix": "stock||x"}, type=kind)
    with pytest.raises(SettingError, match="keyPrefix"):
        definition.runtime_metadata({"keyPrefix": "stock||x"})


@pytest.mark.parametrize("app_id", ["none", "NAME", "appid", "namespace"])
def test_an_app_is_no_strategy(app_id):
    """An app that is called as a strategy of prefixes does not get that strategy by its name."""
    definition = define("c", {"keyPrefix": "{appID}"}, type="state.redis")
    with pytest.raises(SettingError, match="keyPrefix"):
        definition.runtime_metadata({"keyPrefix": app_id})


@pytest.mark.parametrize(
    ("first", "second", "wrong"),
    [
        ({}, {"scopes": ("b",)}, True),
        ({}, {"scopes": ("b",), "name": "other"}, True),
        ({}, {"scopes": ("a",), "name": "other"}, False),
        ({}, {"scopes": ("b",), "group": "h"}, False),
        ({}, {"scopes": ("b",), "host": "elsewhere"}, False),
        ({}, {"scopes": ("b", "a"), "name": "other"}, False),
        ({}, {"scopes": ("a",), "namespace": "other"}, True),
        ({"group": "{uuid}"}, {"scopes": ("b",), "group": "{uuid}"}, False),
        ({"group": "g-{appID}"}, {"scopes": ("b",), "group": "g-{appID}"}, False),
        ({"group": ""}, {"scopes": ("b",), "group": ""}, False),
        ({"type": "state.redis"}, {"scopes": ("b",), "type": "state.redis"}, False),
    ],
)
def test_two_apps_in_one_consumer_group(first, second, wrong):
    """Two components that are one app's each and put both apps into one group are refused: the second, naming the first."""

    def made(*, group: str = "g", host: str = "here", **fields):
        given = {"name": "c", "type": "pubsub.redis", "scopes": ("a",), **fields}
        return define(values={"consumerID": group, "redisHost": host}, **given)

    definitions = [made(file="1.yaml", **first), made(file="2.yaml", **second)]
    found = [(error.origin.file, error.problem) for error in find_shared_groups(definitions)]
    problem = f"consumerID g is that of app a in {definitions[0].resource.origin}: give each app its own"
    assert found == [("2.yaml", problem)] * wrong
