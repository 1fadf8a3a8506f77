"""What stands between an instance and the API server of a test: it counts requests, and answers 410 when it is told to."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from aiohttp import web

from dapr_shared.kube.config import KubeConfig, Material
from tests.support.kubernetes_client import kubeconfig
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.kubernetes_client import KubernetesClient

EXPIRED = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "The provided continue parameter is too old",
    "reason": "Expired",
    "code": 410,
}


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    query: dict[str, str]

    @property
    def verb(self) -> str:
        """`watch`, `list`, `get`, or the method of what writes."""
        if self.method != "GET":
            return self.method
        return "watch" if "watch" in self.query else "get" if len(self._parts) > 1 else "list"

    @property
    def plural(self) -> str:
        """The kind that is asked for."""
        return self._parts[0]

    @property
    def _parts(self) -> list[str]:
        """Of the path, behind version and namespace: kind, name, subresource."""
        parts = self.path.strip("/").split("/")[2 if self.path.startswith("/api/") else 3 :]
        return parts[2:] if parts[0] == "namespaces" and len(parts) > 2 else parts


class Between:
    """Passes requests on, in a thread of its own. What is asked is read by the test's thread."""

    def __init__(self, server: KubernetesClient) -> None:
        self._server = server
        (self.port,) = free_ports(1)
        self.asked: list[Asked] = []
        self.expire: set[str] = set()
        """Plurals of whose lists the next further part is answered 410."""
        self.most_at_once: Counter[str] = Counter()
        """By kind, of requests that are no watches."""
        self._at_once: Counter[str] = Counter()
        self._watches: dict[str, set[asyncio.Event]] = {}
        self._loop = asyncio.new_event_loop()

    def kubeconfig(self, folder: Path, token: str, namespace: str) -> Path:
        """For an instance that goes through here."""
        file = folder / "between.conf"
        file.write_text(
            kubeconfig(f"http://127.0.0.1:{self.port}", self._server.ca, token, namespace), encoding="utf-8"
        )
        return file

    def count(self, verb: str, plural: str = "") -> int:
        """How many requests of this kind there were."""
        return sum(one.verb == verb and plural in ("", one.plural) for one in self.asked)

    def end_watches(self, plural: str) -> None:
        """Tell the watches of a kind that their version is forgotten, as the API server does it in their midst."""
        self._loop.call_soon_threadsafe(lambda: [ended.set() for ended in self._watches.get(plural, ())])

    # In the thread ----------------------------------------------------------------------------------------------------
    async def _run(self, ready: threading.Event, ending: asyncio.Event) -> None:
        context = KubeConfig(self._server.address, "", "a test", authority=Material(self._server.ca)).read().context
        connector = aiohttp.TCPConnector(limit=0, ssl=context or True)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            app = web.Application(client_max_size=64 * 1024 * 1024)
            app.router.add_route("*", "/{path:.*}", self._count)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            ready.set()
            await ending.wait()
            for watches in self._watches.values():
                for ended in watches:
                    ended.set()
            await runner.cleanup()

    async def _count(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.path, dict(request.query))
        self.asked.append(asked)
        kind = asked.plural
        self._at_once[kind] += asked.verb != "watch"
        self.most_at_once[kind] = max(self.most_at_once[kind], self._at_once[kind])
        try:
            return await self._pass(asked, request)
        finally:
            self._at_once[kind] -= asked.verb != "watch"

    async def _pass(self, asked: Asked, request: web.Request) -> web.StreamResponse:
        if asked.query.get("continue") and asked.plural in self.expire:
            self.expire.discard(asked.plural)
            return web.json_response(EXPIRED, status=410)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method,
            f"{self._server.address}{request.raw_path}",
            headers=headers,
            data=await request.read() or None,
            timeout=timeout,
            allow_redirects=False,
        ) as found:
            kept = {k: v for k, v in found.headers.items() if k.lower() in ("content-type", "content-encoding")}
            if asked.verb != "watch":
                return web.Response(status=found.status, headers=kept, body=await found.read())
            answer = web.StreamResponse(status=found.status, headers=kept)
            await answer.prepare(request)
            await self._stream(asked.plural, found, answer)
            return answer

    async def _stream(self, plural: str, found: aiohttp.ClientResponse, answer: web.StreamResponse) -> None:
        ended = asyncio.Event()
        self._watches.setdefault(plural, set()).add(ended)
        told = asyncio.ensure_future(ended.wait())
        try:
            while True:
                part = asyncio.ensure_future(found.content.readany())
                await asyncio.wait((part, told), return_when=asyncio.FIRST_COMPLETED)
                if told.done():
                    part.cancel()
                    with suppress(ConnectionError):  # at the end of a test nobody listens any more
                        await answer.write(json.dumps({"type": "ERROR", "object": EXPIRED}).encode() + b"\n")
                    return
                if not part.result():
                    return
                await answer.write(part.result())
        finally:
            told.cancel()
            self._watches[plural].discard(ended)

    @contextmanager
    def running(self) -> Iterator[Between]:
        """Until the end of the block."""
        ready, ending = threading.Event(), asyncio.Event()

        def work() -> None:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._run(ready, ending))
            self._loop.close()

        thread = threading.Thread(target=work, name="between", daemon=True)
        thread.start()
        assert ready.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(ending.set)
            thread.join(10)
