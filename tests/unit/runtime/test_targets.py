"""What may be invoked outside the instance: HTTPEndpoints in scope, and absolute URLs where they are allowed."""

from __future__ import annotations

import pytest

from dapr_shared.channel.external import ExternalConnections
from dapr_shared.core.errors import DaprError
from dapr_shared.core.ids import AppRef
from dapr_shared.identity.caller import Caller, Evidence, RegisteredApp
from dapr_shared.resources.loader import load_objects
from dapr_shared.resources.model import App
from dapr_shared.runtime.apps import AppsError
from dapr_shared.runtime.targets import ExternalTargets


def caller(app_id: str = "orders", namespace: str = "default") -> Caller:
    return Caller(RegisteredApp(AppRef(app_id, namespace), App(name=app_id, app_id=app_id)), (Evidence.TOKEN,))


def targets(*allowed: str, multi_app: bool = True) -> ExternalTargets:
    return ExternalTargets(ExternalConnections(), multi_app=multi_app, allowed_hosts=allowed)


def endpoint(name: str, url: str = "http://127.0.0.1:9/base", namespace: str = "default", **extra) -> dict:
    headers = extra.pop("headers", [])
    return {
        "apiVersion": "dapr.io/v1alpha1",
        "kind": "HTTPEndpoint",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"baseUrl": url, "headers": headers, **extra.pop("spec", {})},
        **extra,
    }


def reader(_namespace):
    async def read(store, name, key):
        return {("vault", "key"): "s3cret"}.get((store, name))

    return read


async def adopt(made: ExternalTargets, *endpoints: dict) -> None:
    resources = load_objects(endpoints, source="test").http_endpoints
    made.adopt(await made.build(resources, reader))


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:3500", "https://example.com", "http://user@allowed.example@evil.example", "http://allowed.example.evil",
     "http://evil.example/allowed.example", "http://evil.example#@allowed.example", "http://evil.example\\@x", "http:///x"],
)  # fmt: skip
async def test_absolute_urls_are_off(url):
    """On an instance for many apps a URL whose host is not allowed by name is denied, however it is written."""
    with pytest.raises(DaprError) as caught:
        targets("allowed.example").resolve(caller(), url)
    assert caught.value.row.http == 403


@pytest.mark.parametrize("url", ["http://[", "http://[::1", "https://]x", "http://\u2100.example"])
@pytest.mark.parametrize("multi_app", [True, False])
async def test_what_is_no_url(url, multi_app):
    """A text that is no URL is a failed invocation, in either mode."""
    with pytest.raises(DaprError) as caught:
        targets("x", multi_app=multi_app).resolve(caller(), url)
    assert caught.value.row.code == "ERR_DIRECT_INVOKE"


@pytest.mark.parametrize("url", ["ftp://allowed.example", "http://allowed.example:0", "http://allowed.example:99999",
                                 "http://allowed.example/?q=1"])  # fmt: skip
async def test_urls_that_cannot_be_called(url):
    """An allowed host does not make a wrong URL right."""
    with pytest.raises(DaprError) as caught:
        targets("allowed.example").resolve(caller(), url)
    assert caught.value.row.code == "ERR_DIRECT_INVOKE"


async def test_an_allowed_host():
    """A host that is allowed by name is called, in any case and with any port; the target is made once."""
    made = targets("Allowed.Example")
    first = made.resolve(caller(), "http://ALLOWED.example:8080")
    assert first is not None
    assert (first.origin.host, first.origin.port) == ("allowed.example", 8080)
    assert made.resolve(caller(), "http://ALLOWED.example:8080") is first


async def test_what_is_called_is_what_was_allowed():
    """The host that was compared is the host that is connected to, also with a user or an odd spelling in the URL."""
    made = targets("allowed.example")
    for url in ("http://evil.example@allowed.example/", "http://a:b@ALLOWED.example", "https://allowed.example:1/x"):
        assert made.resolve(caller(), url).origin.host == "allowed.example"


async def test_made_up_urls_are_bounded():
    """However many URLs a caller makes up, only so many are kept."""
    made = targets("x")
    for number in range(1000):
        made.resolve(caller(), f"http://x/{number}")
    assert len(made._urls) <= 256


async def test_single_app_mode_calls_any_url():
    """In single-app mode absolute URLs are daprd's: any host."""
    assert targets(multi_app=False).resolve(caller(), "http://anything.example") is not None


async def test_an_endpoint_is_seen_in_its_namespace_and_scopes():
    """An HTTPEndpoint is for the apps of its namespace that its scopes name; for all others there is none."""
    made = targets()
    await adopt(made, endpoint("open"), endpoint("closed", scopes=["stock"]), endpoint("other", namespace="shop"))
    assert made.resolve(caller(), "open") is not None
    assert made.resolve(caller(), "closed") is None
    assert made.resolve(caller("stock"), "closed") is not None
    assert made.resolve(caller(), "other") is None
    assert made.resolve(caller(namespace="shop"), "other") is not None
    assert made.resolve(caller(), "nothing") is None
    assert made.names(AppRef("orders")) == ["open"]
    assert made.names(AppRef("stock")) == ["open", "closed"]


async def test_headers_of_an_endpoint():
    """Headers are resolved when the endpoint is loaded, secrets among them, and replace what the caller sends."""
    made = targets()
    headers = [
        {"name": "X-Plain", "value": "1"},
        {"name": "X-Secret", "secretKeyRef": {"name": "key", "key": "key"}},
    ]
    await adopt(made, endpoint("e", headers=headers, auth={"secretStore": "vault"}))
    target = made.resolve(caller(), "e")
    assert (b"x-plain", b"1") in target._headers
    assert (b"x-secret", b"s3cret") in target._headers
    assert b"x-secret" in target._replaced


async def test_wrong_endpoints_are_told_together():
    """Everything that is wrong with the endpoints is in one error, and none of them is used."""
    made = targets()
    await adopt(made, endpoint("old"))
    tls = {"rootCA": {"value": "no certificate"}}
    with pytest.raises(AppsError) as caught:
        await adopt(made, endpoint("a", url="ftp://x"), endpoint("b", spec={"clientTLS": tls}), endpoint("c"))
    assert "HTTPEndpoint a" in str(caught.value)
    assert "HTTPEndpoint b" in str(caught.value)
    assert made.names(AppRef("orders")) == ["old"]


async def test_endpoints_of_one_name_for_different_apps():
    """Two HTTPEndpoints of one name are legal where no app sees both, and each app calls its own."""
    made = targets()
    one, two = endpoint("bank", "http://127.0.0.1:1", scopes=["orders"]), endpoint("bank", scopes=["stock"])
    await adopt(made, one, two)
    of_orders, of_stock = made.resolve(caller("orders"), "bank"), made.resolve(caller("stock"), "bank")
    assert of_orders is not None
    assert of_stock is not None
    assert of_orders is not of_stock
    assert made.resolve(caller("mail"), "bank") is None
    assert made.names(AppRef("orders", "default")) == ["bank"]
