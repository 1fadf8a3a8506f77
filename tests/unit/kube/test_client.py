from __future__ import annotations

from contextlib import aclosing

import pytest
from aiohttp import web

from dapr_shared.kube import client as client_module
from dapr_shared.kube import connection
from dapr_shared.kube.config import Material
from dapr_shared.kube.errors import (
    Asked,
    Conflict,
    Forbidden,
    Gone,
    KubeError,
    NotFound,
    Unauthorized,
    Unavailable,
    error_of,
)
from dapr_shared.kube.objects import CONFIG_MAPS, ISSUER_KEYS, PODS, SECRETS, SERVICES, ObjectKind, custom
from tests.support.fake_kube import TOKEN, refused, status_of

APPS: ObjectKind = custom("shared.example.io", "v1", "apps", "App")


async def test_get(server, client):
    """An object is what the server has."""
    server.put(PODS, "web-1", spec={"x": 1})
    assert (await client.get(PODS, "web-1", "shop"))["spec"] == {"x": 1}


async def test_paths():
    """The core group, a group, a namespace, a subresource and names that need quoting have the paths of the API."""
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("shop", "web-1") == "/api/v1/namespaces/shop/pods/web-1"
    assert APPS.path("shop", "a", "status") == "/apis/shared.example.io/v1/namespaces/shop/apps/a/status"
    assert PODS.path("shop", "../../x") == "/api/v1/namespaces/shop/pods/..%2F..%2Fx"


async def test_a_name_cannot_lead_elsewhere(server, client):
    """A name with slashes and dots is asked for as one name."""
    server.install(PODS)
    with pytest.raises(NotFound):
        await client.get(PODS, "../secrets/x", "shop")
    assert server.seen[-1].path_qs.endswith("pods/..%2Fsecrets%2Fx") or "secrets%2Fx" in server.seen[-1].raw_path


async def test_list_in_parts(server, client, monkeypatch):
    """A list is read in parts and is whole, without managedFields, each object with its kind."""
    monkeypatch.setattr(client_module, "CHUNK", 2)
    for number in range(5):
        server.put(CONFIG_MAPS, f"m{number}", data={"a": "b"})
    found = await client.list(CONFIG_MAPS, "shop")
    assert [item["metadata"]["name"] for item in found.items] == ["m0", "m1", "m2", "m3", "m4"]
    assert server.counted("GET", "configmaps") == 3
    assert found.resource_version == str(server.version)
    assert all("managedFields" not in item["metadata"] and item["kind"] == "ConfigMap" for item in found.items)


async def test_list_whose_parts_expire(server, client, monkeypatch):
    """When the server forgets the version while the parts are read, the list is read again at once, and is whole."""
    monkeypatch.setattr(client_module, "CHUNK", 2)
    for number in range(5):
        server.put(CONFIG_MAPS, f"m{number}")
    server.refuse = lambda request: server.forget() if "continue" in request.query else None
    found = await client.list(CONFIG_MAPS, "shop")
    assert len(found.items) == 5
    assert "limit" not in server.requests[-1][2]


async def test_list_of_metadata(server, client):
    """A list of metadata asks the server for no more and keeps the fields that say what an object is."""
    last = "kubectl.kubernetes.io/last-applied-configuration"
    server.put(
        SERVICES, "web", spec={"x": 1}, metadata={"annotations": {"a": "b", last: "{…}"}, "ownerReferences": [{}]}
    )
    found = await client.list(SERVICES, metadata_only=True)
    assert found.items == [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "web",
                "namespace": "shop",
                "uid": "uid-shop-web",
                "resourceVersion": str(server.version),
                "annotations": {"a": "b"},
            },
        }
    ]
    assert "as=PartialObjectMetadataList" in server.seen[-1].headers["Accept"]


async def test_wanted(server, client, monkeypatch):
    """What is not wanted is left out of a list, part by part."""
    monkeypatch.setattr(client_module, "CHUNK", 2)
    for number in range(5):
        server.put(CONFIG_MAPS, f"m{number}")
    found = await client.list(CONFIG_MAPS, "shop", wanted=lambda item: item["metadata"]["name"] in {"m1", "m4"})
    assert [item["metadata"]["name"] for item in found.items] == ["m1", "m4"]


async def test_selectors(server, client):
    """Selectors reach the server."""
    server.install(PODS)
    await client.list(PODS, "shop", label_selector="app in (a,b)", field_selector="metadata.name=x")
    assert server.requests[-1][2]["labelSelector"] == "app in (a,b)"
    assert server.requests[-1][2]["fieldSelector"] == "metadata.name=x"


async def test_watch(server, client):
    """A watch first says that it goes on, then tells changes and bookmarks, and asks for both with a time limit."""
    start = server.put(PODS, "web-1")["metadata"]["resourceVersion"]
    async with aclosing(client.watch(PODS, "shop", resource_version=start)) as events:
        first = await anext(events)
        assert (first.type, first.object["metadata"]["resourceVersion"]) == ("BOOKMARK", start)
        server.put(PODS, "web-2")
        server.remove(PODS, "web-1")
        server.bookmark(PODS)
        told = [await anext(events) for _ in range(3)]
    assert [event.type for event in told] == ["ADDED", "DELETED", "BOOKMARK"]
    assert "managedFields" not in told[0].object["metadata"]
    query = server.requests[-1][2]
    assert query["allowWatchBookmarks"] == "true"
    assert 300 <= int(query["timeoutSeconds"]) <= 600


async def test_watch_from_a_forgotten_version(server, client):
    """410 is Gone, as an answer and as an event in the middle."""
    server.install(PODS)
    server.forget()
    with pytest.raises(Gone):
        await anext(client.watch(PODS, resource_version="1"))
    async with aclosing(client.watch(PODS, resource_version=str(server.version))) as events:
        await anext(events)
        server.say(PODS, {"type": "ERROR", "object": status_of(410, "Expired", "too old resource version")})
        with pytest.raises(Gone):
            await anext(events)


@pytest.mark.parametrize(
    "line", [{"type": "ODD", "object": {}}, {"type": "ADDED"}, {"type": "ADDED", "object": [1]}, {}]
)
async def test_watch_of_nonsense(server, client, line):
    """What is no event is an error without its content."""
    server.install(PODS)
    async with aclosing(client.watch(PODS, resource_version=str(server.version))) as events:
        await anext(events)
        server.say(PODS, line)
        with pytest.raises(KubeError, match="what is no event"):
            await anext(events)


async def test_silent_watch(server, client, monkeypatch):
    """A watch on which nothing comes, as over a connection that was lost, is given up."""
    monkeypatch.setattr(connection, "SILENCE", 0.1)
    server.install(PODS)
    async with aclosing(client.watch(PODS, resource_version="100")) as events:
        await anext(events)
        with pytest.raises(Unavailable, match="did not answer in time"):
            await anext(events)


async def test_long_event(server, client, monkeypatch):
    """An event longer than a network packet is one event; one over the bound is refused."""
    server.install(SECRETS)
    async with aclosing(client.watch(SECRETS, resource_version="100")) as events:
        await anext(events)
        server.put(SECRETS, "big", data={"a": "x" * 1_000_000})
        assert len((await anext(events)).object["data"]["a"]) == 1_000_000
        monkeypatch.setattr(connection, "LINE_LIMIT", 100_000)
        server.put(SECRETS, "big", data={"a": "x" * 1_000_000})
        with pytest.raises(KubeError, match="more than 100000 bytes"):
            await anext(events)


async def test_large_answer(server, client, monkeypatch):
    """An answer over the bound is refused with its name."""
    server.put(SECRETS, "big", data={"a": "x" * 1000})
    monkeypatch.setattr(connection.ApiConnection._read, "__defaults__", (500,))
    with pytest.raises(KubeError, match="get secrets big in namespace shop: the answer has more than 500 bytes"):
        await client.get(SECRETS, "big", "shop")


async def test_writes(server, client):
    """Objects are made, changed in part, put in place of others, applied, and removed."""
    server.install(CONFIG_MAPS, APPS)
    made = await client.create(CONFIG_MAPS, {"metadata": {"name": "m"}, "data": {"a": "1", "b": "2"}}, "shop")
    with pytest.raises(Conflict):
        await client.create(CONFIG_MAPS, {"metadata": {"name": "m"}}, "shop")
    changed = await client.patch(CONFIG_MAPS, "m", {"data": {"a": None, "c": "3"}}, "shop")
    assert changed["data"] == {"b": "2", "c": "3"}
    with pytest.raises(Conflict):
        await client.replace(CONFIG_MAPS, "m", made, "shop")
    await client.replace(CONFIG_MAPS, "m", {**changed, "data": {}}, "shop")
    assert (await client.get(CONFIG_MAPS, "m", "shop"))["data"] == {}
    await client.delete(CONFIG_MAPS, "m", "shop")
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, "m", "shop")
    await client.patch(APPS, "a", {"status": {"ready": True}}, "shop", subresource="status", apply_as="us")
    assert server.bodies[-1]["kind"] == "App"
    assert server.bodies[-1]["metadata"] == {"name": "a"}
    assert server.requests[-1][1:] == (
        "/apis/shared.example.io/v1/namespaces/shop/apps/a/status",
        {"fieldManager": "us", "force": "true"},
    )


async def test_forbidden(server, client):
    """A refusal by RBAC names who needs which verb on what, and where, and the rule that a role needs."""
    said = (
        'pods is forbidden: User "system:serviceaccount:shop:dapr" cannot list resource "pods" in API group ""'
        ' in the namespace "shop"'
    )
    server.refuse = lambda _request: refused(403, "Forbidden", said)
    with pytest.raises(Forbidden) as caught:
        await client.list(PODS, "shop")
    assert str(caught.value) == (
        "pods is forbidden: the service account shop/dapr needs the verb list on pods in namespace shop: "
        'Role with {apiGroups: [""], resources: [pods], verbs: [list]}'
    )
    assert caught.value.missing == "list"
    with pytest.raises(Forbidden, match="the verb list on pods cluster-wide: ClusterRole with"):
        await client.list(PODS)


async def test_forbidden_path(server, client):
    """A refused path of the API server is named with its verb too."""
    said = 'forbidden: User "system:serviceaccount:shop:dapr" cannot get path "/openid/v1/jwks"'
    server.refuse = lambda _request: refused(403, "Forbidden", said)
    with pytest.raises(Forbidden) as caught:
        await client.published(ISSUER_KEYS)
    assert str(caught.value) == (
        "/openid/v1/jwks is forbidden: the service account shop/dapr needs the verb get on /openid/v1/jwks cluster-wide: "
        "ClusterRole with {nonResourceURLs: [/openid/v1/jwks], verbs: [get]}"
    )


def test_advice():
    """A client that is told how rights are given says so, with the verb, group and resource that the server has named."""
    body = {"message": 'User "u" cannot patch resource "apps/status" in API group "shared.example.io"'}
    asked = Asked("patch", APPS, "shop", "tea", "status")
    error = error_of(asked, 403, body, advise=lambda *what: f"ask for {what}")
    assert str(error).endswith(
        "resources: [apps/status], verbs: [patch]}; ask for ('patch', 'shared.example.io', 'apps/status')"
    )


async def test_forbidden_by_admission(server, client):
    """A refusal that RBAC has no part in keeps the server's words."""
    server.refuse = lambda _request: refused(403, "Forbidden", 'pods "x" is forbidden: exceeded quota')
    with pytest.raises(Forbidden, match=r"create pods in namespace shop is refused: .*exceeded quota") as caught:
        await client.create(PODS, {"metadata": {"name": "x"}}, "shop")
    assert not caught.value.missing


async def test_unknown_kind(client):
    """A kind that the server does not know is told from an object that is not there."""
    with pytest.raises(NotFound, match="does not know this kind; is its CustomResourceDefinition installed"):
        await client.list(APPS, "shop")
    with pytest.raises(NotFound, match=r"get apps.shared.example.io a in namespace shop: not found"):
        await client.get(APPS, "a", "shop")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_unavailable(server, client, status):
    """What passes by itself is one error, with the time that the server asks to wait."""
    headers = {"Retry-After": "7"}
    server.refuse = lambda _request: web.Response(status=status, text="<html>busy</html>", headers=headers)
    with pytest.raises(Unavailable, match=f"the API server answered {status}") as caught:
        await client.list(PODS)
    assert caught.value.retry_after == 7
    assert "html" not in str(caught.value)


async def test_no_server(server, client):
    """No connection is an error that says where to."""
    await server.down()
    with pytest.raises(Unavailable, match=r"list pods cluster-wide: the API server at http://127.0.0.1:\d+ cannot be"):
        await client.list(PODS)


async def test_no_json(server, client):
    """An answer that is no JSON, of a proxy say, is an error without its content."""
    server.refuse = lambda _request: web.Response(text="<html>private</html>")
    with pytest.raises(Unavailable, match="answered what is no object in JSON") as caught:
        await client.get(PODS, "x", "shop")
    assert "private" not in str(caught.value)


async def test_redirects_are_not_followed(server, client):
    """A redirect is an error: the token goes to the API server alone."""
    location = {"Location": f"http://127.0.0.1:{server.port}/elsewhere"}
    server.refuse = lambda _request: web.Response(status=302, headers=location)
    with pytest.raises(KubeError, match="answered 302"):
        await client.get(PODS, "x", "shop")
    assert len(server.requests) == 1


async def test_renewed_token(server, stack, tmp_path):
    """A token file that was renewed is read again when the old token is refused, and the call succeeds."""
    file = tmp_path / "token"
    file.write_text("old\n")
    server.tokens = {"old"}
    server.put(PODS, "web-1")
    client = await server.client(stack, Material(file))
    await client.get(PODS, "web-1", "shop")
    server.tokens = {"new"}
    with pytest.raises(Unauthorized, match="does not accept the credentials"):
        await client.get(PODS, "web-1", "shop")
    file.write_text("new\n")
    await client.get(PODS, "web-1", "shop")


async def test_token_read_by_the_minute(server, stack, tmp_path, monkeypatch):
    """A token file is read again in time, before its old token is refused; one that vanished leaves the old token."""
    file = tmp_path / "token"
    file.write_text("old")
    server.tokens = {"old", "new"}
    server.put(PODS, "web-1")
    client = await server.client(stack, Material(file))
    await client.get(PODS, "web-1", "shop")
    file.write_text("new")
    await client.get(PODS, "web-1", "shop")
    assert server.seen[-1].headers["Authorization"] == "Bearer old"
    monkeypatch.setattr(connection, "CREDENTIALS_AGE", 0.0)
    await client.get(PODS, "web-1", "shop")
    assert server.seen[-1].headers["Authorization"] == "Bearer new"
    file.unlink()
    await client.get(PODS, "web-1", "shop")
    assert server.seen[-1].headers["Authorization"] == "Bearer new"


async def test_nothing_shows_the_token(server, stack):
    """Neither the client, nor its parts, nor an error with its causes shows the token."""
    client = await server.client(stack)
    await server.down()
    with pytest.raises(Unavailable) as caught:
        await client.create(SECRETS, {"metadata": {"name": "s"}, "data": {"p": "geheim"}}, "shop")
    inner = client._connection
    shown = [repr(client), repr(inner), repr(inner._credentials), repr(inner.config), repr(caught.value)]
    error: BaseException | None = caught.value
    while error is not None:
        shown += [str(error), repr(error), repr(vars(error))]
        error = error.__cause__ or error.__context__
    assert not [text for text in shown if TOKEN in text or "geheim" in text]
