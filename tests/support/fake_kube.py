"""An API server of Kubernetes in the test's own event loop: lists, watches and writes, and faults when they are asked for.

It keeps what a client sees: versions that grow, lists in parts, watches from a version on with bookmarks when told, 410 for
what is forgotten. What it does not know it answers 404.
"""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from dapr_shared.kube.client import KubeClient
from dapr_shared.kube.config import KubeConfig, Material

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack

    from dapr_shared.kube.objects import ObjectKind

TOKEN = "fake-token-8f1c"


def status_of(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def refused(code: int, reason: str, message: str, **headers: str) -> web.Response:
    return web.json_response(status_of(code, reason, message), status=code, headers=headers)


class FakeKube:
    """`installed` kinds are served; `refuse` may answer a request in place of the server."""

    def __init__(self) -> None:
        self.installed: dict[tuple[str, str, str], ObjectKind] = {}
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.history: list[tuple[int, str, str, dict[str, Any]]] = []
        self.version = 100
        self.forgotten = 0
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.seen: list[web.BaseRequest] = []
        self.bodies: list[dict[str, Any]] = []
        self.tokens = {TOKEN}
        self.refuse: Callable[[web.BaseRequest], web.StreamResponse | Awaitable[web.StreamResponse] | None] = (
            lambda _request: None
        )
        self.review: Callable[[dict[str, Any]], dict[str, Any]] = lambda _spec: {"authenticated": False}
        self.end_watches_at_once = False
        self.watches = 0
        self._news = asyncio.Event()
        self._cut = asyncio.Event()
        self._runner: web.ServerRunner | None = None
        self.port = 0

    async def start(self, stack: AsyncExitStack) -> None:
        await self.up()
        stack.push_async_callback(self.down)

    async def up(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def down(self) -> None:
        """Refuse connections from now on, and end those there are."""
        if self._runner is not None:
            self.cut()
            runner, self._runner = self._runner, None
            await runner.cleanup()

    async def client(self, stack: AsyncExitStack, token: Material | None = None) -> KubeClient:
        config = KubeConfig(f"http://127.0.0.1:{self.port}", "shop", "a test", token or Material(given=TOKEN.encode()))
        client = KubeClient(config)
        await client.start(stack)
        return client

    # What happens in the cluster -------------------------------------------------------------------------------------
    def install(self, *kinds: ObjectKind) -> None:
        for kind in kinds:
            self.installed[(kind.group, kind.version, kind.plural)] = kind

    def put(self, kind: ObjectKind, name: str, namespace: str = "shop", **fields: Any) -> dict[str, Any]:
        self.install(kind)
        key = (kind.resource, namespace, name)
        metadata = {
            "name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}", "managedFields": [{"manager": "x"}],
            **fields.pop("metadata", {}),
        }  # fmt: skip
        return self._store(key, {**fields, "metadata": metadata})

    def remove(self, kind: ObjectKind, name: str, namespace: str = "shop") -> None:
        item = self.objects.pop((kind.resource, namespace, name))
        self.version += 1
        gone = copy.deepcopy(item)
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._tell(kind.resource, "DELETED", gone)

    def bookmark(self, kind: ObjectKind) -> None:
        self.version += 1
        self._tell(kind.resource, "BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    def forget(self) -> None:
        """Remember no version before this one."""
        self.version += 1
        self.forgotten = self.version

    def cut(self) -> None:
        """End all watches."""
        self._cut.set()
        self._cut = asyncio.Event()

    def say(self, kind: ObjectKind, line: dict[str, Any]) -> None:
        """Send this as an event to all watches of a kind."""
        self.version += 1
        self.history.append((self.version, kind.resource, "RAW", line))
        self._news.set()
        self._news = asyncio.Event()

    def counted(self, verb: str, plural: str) -> int:
        return sum(1 for seen, path, _query in self.requests if seen == verb and plural in path.split("/"))

    # The server ------------------------------------------------------------------------------------------------------
    def _store(self, key: tuple[str, str, str], item: dict[str, Any]) -> dict[str, Any]:
        known = key in self.objects
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        item["metadata"].setdefault("uid", f"uid-{self.version}")
        self.objects[key] = item
        self._tell(key[0], "MODIFIED" if known else "ADDED", copy.deepcopy(item))
        return item

    def _tell(self, resource: str, kind: str, item: dict[str, Any]) -> None:
        self.history.append((self.version, resource, kind, item))
        self._news.set()
        self._news = asyncio.Event()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        query = dict(request.query)
        verb = "watch" if query.get("watch") else request.method
        self.requests.append((verb, request.path, query))
        self.seen.append(request)
        refusal = self.refuse(request)
        if refusal is not None:
            return refusal if isinstance(refusal, web.StreamResponse) else await refusal
        if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
            return refused(401, "Unauthorized", "Unauthorized")
        parts = request.path.strip("/").split("/")
        group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        kind = self.installed.get((group, version, rest[0]))
        if kind is None:
            return refused(404, "NotFound", "the server could not find the requested resource")
        only_metadata = "as=PartialObjectMetadata" in request.headers.get("Accept", "")
        if verb == "watch":
            return await self._watch(request, kind, namespace, query, only_metadata=only_metadata)
        if len(rest) == 1 and request.method == "GET":
            return self._list(kind, namespace, query, only_metadata=only_metadata)
        return await self._one(request, kind, namespace, rest[1:])

    def _matching(self, kind: ObjectKind, namespace: str, query: dict[str, str]) -> list[dict[str, Any]]:
        return [
            item
            for (resource, of, _name), item in sorted(self.objects.items())
            if resource == kind.resource and namespace in ("", of) and _chosen(item, query)
        ]

    def _list(self, kind: ObjectKind, namespace: str, query: dict[str, str], *, only_metadata: bool) -> web.Response:
        items = self._matching(kind, namespace, query)
        begin, at = 0, self.version
        if "continue" in query:
            begin, at = map(int, query["continue"].split("@"))
            if at < self.forgotten:
                return refused(410, "Expired", "The provided continue parameter is too old")
        end = begin + int(query.get("limit", "1000000"))
        metadata = {"resourceVersion": str(at)}
        if end < len(items):
            metadata["continue"] = f"{end}@{at}"
        shown = [_partial(item) if only_metadata else item for item in items[begin:end]]
        return web.json_response({"metadata": metadata, "items": shown})

    async def _watch(
        self, request: web.BaseRequest, kind: ObjectKind, namespace: str, query: dict[str, str], *, only_metadata: bool
    ) -> web.StreamResponse:
        at = int(query["resourceVersion"])
        if at < self.forgotten:
            return refused(410, "Expired", f"too old resource version: {at}")
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        if self.end_watches_at_once:
            return answer
        cut, position = self._cut, 0
        self.watches += 1
        try:
            while not cut.is_set():
                news = self._news
                for version, resource, type_, item in self.history[position:]:
                    position += 1
                    wanted = version > at and resource == kind.resource and (type_ in _SAID or _chosen(item, query))
                    if wanted and namespace in ("", item.get("metadata", {}).get("namespace", namespace)):
                        event = {"type": type_, "object": _partial(item) if only_metadata else item}
                        await answer.write(orjson.dumps(item if type_ == "RAW" else event) + b"\n")
                        if type_ == "RAW":
                            return answer
                waits = [asyncio.ensure_future(news.wait()), asyncio.ensure_future(cut.wait())]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
        finally:
            self.watches -= 1
        return answer

    async def _one(  # noqa: PLR0911 - one a verb
        self, request: web.BaseRequest, kind: ObjectKind, namespace: str, rest: list[str]
    ) -> web.StreamResponse:
        raw = await request.read()
        body = orjson.loads(raw) if raw else {}
        self.bodies.append(body)
        if kind.plural == "tokenreviews":
            return web.json_response({**body, "status": self.review(body["spec"])}, status=201)
        name = rest[0] if rest else body["metadata"]["name"]
        key = (kind.resource, namespace, name)
        known = self.objects.get(key)
        if request.method == "POST":
            if known is not None:
                return refused(409, "AlreadyExists", f'{kind.resource} "{name}" already exists')
            body["metadata"].setdefault("namespace", namespace)
            return web.json_response(self._store(key, body), status=201)
        applied = "apply-patch" in request.headers.get("Content-Type", "")
        if known is None and not applied:
            return refused(404, "NotFound", f'{kind.resource} "{name}" not found')
        if request.method == "GET":
            return web.json_response(known)
        if request.method == "DELETE":
            self.remove(kind, name, namespace)
            return web.json_response(status_of(200, "", ""))
        if request.method == "PUT":
            if body["metadata"].get("resourceVersion") not in (None, known["metadata"]["resourceVersion"]):
                return refused(409, "Conflict", "the object has been modified")
            return web.json_response(self._store(key, body))
        if known and body.get("metadata", {}).get("uid", known["metadata"]["uid"]) != known["metadata"]["uid"]:
            return refused(409, "Conflict", "Precondition failed: UID in precondition")
        item = copy.deepcopy(known) if known else {"metadata": {"name": name, "namespace": namespace}}
        return web.json_response(self._store(key, _merged(item, body)))


_SAID = ("BOOKMARK", "RAW")
"""Events that are about no object."""


def _chosen(item: dict[str, Any], query: dict[str, str]) -> bool:
    """Whether the label selector, of one equality, takes the object; a watch here does not see it leave the selection."""
    name, equals, value = query.get("labelSelector", "").partition("=")
    return not equals or item["metadata"].get("labels", {}).get(name) == value


def _partial(item: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item.get("metadata", {})}


def _merged(item: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    for name, value in patch.items():
        if value is None:
            item.pop(name, None)
        elif isinstance(value, dict):
            item[name] = _merged(dict(item.get(name) or {}), value)
        else:
            item[name] = value
    return item
