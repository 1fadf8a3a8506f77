"""An instance under attack: what the victim keeps in it, what must never come out, and how long to try.

`FUZZ_SECONDS` (seconds, default 0) makes each `explore` go on with fresh random examples for that long; 0 means a
fixed set of examples, the same in every run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from hypothesis import HealthCheck, Phase, given, seed, settings

from dapr_shared.identity.caller import ListenerIdentity
from dapr_shared.wire.grpc.engines import ENGINES, engine
from dapr_shared.wire.http.limits import ServerLimits
from dapr_shared.wire.http.server import serve
from tests.support.http_peers import origin
from tests.support.inprocess import ORDERS, STOCK, InProcess, inprocess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from hypothesis.strategies import SearchStrategy

CORPUS = Path(__file__).parent.parent / "fuzz" / "corpus"
FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
PATIENCE = 5.0
"""Seconds after which an attempt that has no answer counts as a hang."""

CANARY = "c4n4ry"
"""Part of everything that belongs to the app `stock`, and of nothing that the attacker sends."""
_SECRETS = {"open": "hello", "hidden": f"{CANARY}-hidden", "stock-app-token": f"{CANARY}-token"}

RESOURCES = """
apiVersion: shared.dapr.io/v1alpha1
kind: App
metadata: {{name: orders}}
spec:
  channel: {{port: {port}}}
  tokens: [{{sha256: 09dc72c7e34679dca4f27b58144a13c8c100a058c3f2aabbc6d0513634808f24}}]
  secrets: {{scopes: [{{storeName: vault, defaultAccess: allow, deniedSecrets: [hidden]}}]}}
---
apiVersion: shared.dapr.io/v1alpha1
kind: App
metadata: {{name: stock}}
spec:
  channel: {{port: {port}, apiToken: {{secretKeyRef: {{name: stock-app-token, key: stock-app-token}}}}}}
  tokens: [{{sha256: 94edc3a10c79049fb13c5b6b6f6fce305cd67d93322fd57aecd8c0c37daf5462}}]
  secrets: {{scopes: [{{storeName: vault}}, {{storeName: mine-vault}}]}}
auth: {{secretStore: vault}}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: memory}}
spec: {{type: state.in-memory, version: v1, metadata: []}}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: mine}}
spec: {{type: state.in-memory, version: v1, metadata: [{{name: keyPrefix, value: none}}]}}
scopes: [stock]
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: vault}}
spec: {{type: secretstores.local.file, version: v1, metadata: [{{name: secretsFile, value: {secrets}}}]}}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {{name: mine-vault}}
spec: {{type: secretstores.local.file, version: v1, metadata: [{{name: secretsFile, value: {secrets}}}]}}
scopes: [stock]
---
apiVersion: dapr.io/v1alpha1
kind: HTTPEndpoint
metadata: {{name: {canary}-endpoint}}
spec: {{baseUrl: "http://127.0.0.1:{port}"}}
scopes: [stock]
"""


class Target:
    """The instance, its servers, and what went wrong inside."""

    def __init__(self, instance: InProcess, http: str, grpc: dict[str, str], defects: list[tuple[str, str]]) -> None:
        self.instance = instance
        self.http_address = http
        self.grpc_addresses = grpc
        self._defects = defects

    def judge(self, *seen: bytes) -> None:
        """Fail if anything that came out is the victim's or tells of a defect."""
        found = list(self._defects)
        self._defects.clear()
        for data in seen:
            assert CANARY.encode() not in data, "data of another app came out"
            assert b"Traceback" not in data, "a traceback came out"
            assert b"ERR_INTERNAL" not in data, f"a defect was answered: {found}"
        assert not found, f"defects were reported: {found}"

    async def still_serves(self) -> None:
        """The victim still finds its own data."""
        answer = await self.instance.http("GET", "/v1.0/state/memory/k", token=STOCK)
        assert (answer.status, answer.body) == (200, f'"{CANARY}-value"'.encode())


async def _plant(instance: InProcess) -> None:
    values = [{"key": key, "value": f"{CANARY}-value"} for key in ("k", "a", "1", f"{CANARY}-key")]
    for store in ("memory", "mine"):
        saved = await instance.http("POST", f"/v1.0/state/{store}", json.dumps(values).encode(), token=STOCK)
        assert saved.status == 204
    await instance.http("PUT", "/v1.0/metadata/note", f"{CANARY}-metadata".encode(), token=STOCK)
    own = await instance.http("POST", "/v1.0/state/memory", b'[{"key":"k","value":{"own":1}}]', token=ORDERS)
    assert own.status == 204


@asynccontextmanager
async def target(folder: Path) -> AsyncIterator[Target]:
    """An instance with two apps, the victim's data in it, and both APIs on real loopback ports."""
    secrets = folder / "secrets" / "secrets.json"
    secrets.parent.mkdir()
    secrets.write_text(json.dumps(_SECRETS))
    resources = folder / "resources"
    resources.mkdir()
    app = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nok"
    async with AsyncExitStack() as stack:
        port = (await stack.enter_async_context(origin(app))).port
        text = RESOURCES.format(port=port, secrets=secrets, canary=CANARY)
        instance = await stack.enter_async_context(inprocess(resources, text))
        defects: list[tuple[str, str]] = []
        events: Any = instance.parts.http._events
        events.defect = lambda where, error, trace="": defects.append((where, repr(error)))
        await _plant(instance)
        http = await serve(
            "127.0.0.1:0",
            instance.parts.http,
            listener=ListenerIdentity("http"),
            limits=ServerLimits(header_timeout=0.2, body_timeout=0.2, idle_timeout=0.2, write_timeout=1),
            on_defect=lambda request, error: defects.append((repr(request.target), repr(error))),
        )
        stack.callback(http.close)
        doors = instance.parts.grpc
        addresses: dict[str, str] = {}
        for name in ENGINES:
            grpc = await engine(name, lambda method, error: defects.append((method, repr(error)))).serve(
                "127.0.0.1:0", doors.table(), doors.unknown(), listener=ListenerIdentity("grpc")
            )
            stack.push_async_callback(grpc.stop, 0)
            addresses[name] = grpc.address
        made = Target(instance, http.address, addresses, defects)
        await made.still_serves()
        yield made


class Arena:
    """One event loop with one target, for the examples of a whole module."""

    def __init__(self, runner: asyncio.Runner, target: Target) -> None:
        self.run = runner.run
        self.target = target

    def bounded(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run to the end, which must come within `PATIENCE`."""

        async def limited() -> Any:
            async with asyncio.timeout(PATIENCE):
                return await work

        return self.run(limited())


@contextlib.contextmanager
def arena(folder: Path) -> Iterator[Arena]:
    """Open a target on an event loop of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        made = runner.run(stack.enter_async_context(target(folder)))
        try:
            yield Arena(runner, made)
        finally:
            runner.run(stack.aclose())


def explore(strategy: SearchStrategy[Any], check: Callable[[Any], None], *, examples: int) -> None:
    """Check so many examples, always the same ones; with `FUZZ_SECONDS`, fresh ones for so long."""
    common = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )

    def attempt(example: Any) -> None:
        check(example)

    if not FUZZ_SECONDS:
        settings(common, derandomize=True)(given(example=strategy)(attempt))()
        return
    end = time.monotonic() + FUZZ_SECONDS
    while time.monotonic() < end:
        seed(time.time_ns())(settings(common)(given(example=strategy)(attempt)))()
