"""An instance without listeners and without a process: front doors, blocks and memory components, driven by calls."""

from __future__ import annotations

import io
import textwrap
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dapr_shared.observability.dapr_metrics import DaprMetrics
from dapr_shared.observability.events import Events
from dapr_shared.observability.logs import LogOptions, Logs
from dapr_shared.resources.loader import Resources, examine
from dapr_shared.runtime.assembly import Parts, assemble
from dapr_shared.runtime.reload import Reloader
from dapr_shared.runtime.settings import Settings, check
from dapr_shared.runtime.sources import Sources
from dapr_shared.wire.http.messages import Headers, Request, Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from dapr_shared.wire.grpc.interface import Metadata
    from dapr_shared.wire.tls import PeerCertificate

TWO_APPS = """
    apiVersion: shared.dapr.io/v1alpha1
    kind: App
    metadata: {name: orders}
    spec:
      channel: {port: 1}
      tokens: [{sha256: 09dc72c7e34679dca4f27b58144a13c8c100a058c3f2aabbc6d0513634808f24}]
      secrets: {scopes: [{storeName: vault, defaultAccess: allow, deniedSecrets: [hidden]}]}
    ---
    apiVersion: shared.dapr.io/v1alpha1
    kind: App
    metadata: {name: stock}
    spec:
      tokens: [{sha256: 94edc3a10c79049fb13c5b6b6f6fce305cd67d93322fd57aecd8c0c37daf5462}]
    ---
    apiVersion: dapr.io/v1alpha1
    kind: Component
    metadata: {name: memory}
    spec: {type: state.in-memory, version: v1, metadata: []}
    ---
    apiVersion: dapr.io/v1alpha1
    kind: Component
    metadata: {name: mine}
    spec: {type: state.in-memory, version: v1, metadata: []}
    scopes: [stock]
"""
"""Two apps with the tokens below, a state store for both and one for `stock`."""

ORDERS = "orders-token"
STOCK = "stock-token"


@dataclass
class FakeCall:
    """A gRPC call as a handler sees it."""

    method: str
    metadata: Metadata = ()
    listener: object = None
    certificate: PeerCertificate | None = None
    peer: str = "test"
    initial: list[tuple[str, str | bytes]] = field(default_factory=list)
    trailers: list[tuple[str, str | bytes]] = field(default_factory=list)

    def time_remaining(self) -> float | None:
        return None

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        self.initial += metadata

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        self.trailers += metadata


@dataclass
class InProcess:
    """The parts, and short ways to call them."""

    parts: Parts
    reloader: Reloader
    folder: Path
    log: io.BytesIO

    async def http(
        self,
        method: str,
        target: str | bytes,
        body: bytes = b"",
        *,
        token: str | None = None,
        headers: Headers | None = None,
        listener: object = None,
    ) -> Response:
        """Call the HTTP front door."""
        given = [(b"host", b"test"), *(headers or [])]
        if token is not None:
            given.append((b"dapr-api-token", token.encode()))
        raw = target if isinstance(target, bytes) else target.encode()
        return await self.parts.http(Request(method, raw, given, body, listener=listener))

    async def grpc(self, name: str, data: bytes, *, token: str | None = None) -> bytes:
        """Call a unary method of the gRPC front door."""
        path = f"/dapr.proto.runtime.v1.Dapr/{name}"
        row = next(row for row in self.parts.grpc.table() if row.name == path)
        handler: Any = row.handler
        return await handler(FakeCall(path, [("dapr-api-token", token)] if token else []), data)

    def write(self, name: str, text: str) -> None:
        """Write a resource file."""
        (self.folder / name).write_text(textwrap.dedent(text))


class TolerantSources(Sources):
    """Files of which those resources are taken that are right, as in a cluster."""

    tolerant = True

    async def read_now(self) -> Resources:
        """Those that are right; what is wrong in itself is not told."""
        return examine(self.paths).resources


@asynccontextmanager
async def inprocess(
    folder: Path, resources: str = TWO_APPS, *, tolerant: bool = False, **settings: Any
) -> AsyncIterator[InProcess]:
    """An instance for the apps of `resources`, or with `app_id=…` for one app. `tolerant`: wrong ones are left out."""
    (folder / "resources.yaml").write_text(textwrap.dedent(resources))
    where: dict[str, Sequence[str]] = {"resources_path" if "app_id" in settings else "apps": (str(folder),)}
    made = check(Settings(**{**where, "dapr_http_port": 0, "dapr_grpc_port": 0, **settings}))
    log = io.BytesIO()
    with Logs(LogOptions(level="debug"), stream=log) as logs:
        events = Events(DaprMetrics(), logs.logger)
        sources = (TolerantSources if tolerant else Sources)(made, embedded=False)
        sources.check()
        parts = assemble(
            made, None, events, logs, single=sources.single_record(None), api_token=None, stop=lambda _force: None
        )
        reloader = Reloader(parts, sources, None, events)
        async with AsyncExitStack() as stack:
            await parts.start(stack)
            await reloader.start(await sources.read_now())
            yield InProcess(parts, reloader, folder, log)
