"""The listeners of an instance: shared ones, and those that belong to one app and prove it.

Assembly of the front doors. Listeners of apps come and go with their App resource; shared ones live as long as the
instance.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dapr_shared.identity.caller import ListenerIdentity
from dapr_shared.mesh.peers import MESSAGE_SLACK
from dapr_shared.runtime.ports import PortTakenError, joined, port_taken
from dapr_shared.wire.grpc.interface import ServerOptions
from dapr_shared.wire.http.limits import ServerLimits
from dapr_shared.wire.http.server import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dapr_shared.api.grpc.frontdoor import GrpcFrontDoor
    from dapr_shared.api.grpc.service_invocation import PeerFrontDoor
    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.events import Events
    from dapr_shared.resources.model import Listeners
    from dapr_shared.runtime.settings import Settings
    from dapr_shared.runtime.tls import FrontTls
    from dapr_shared.wire.grpc.interface import Engine, Method, Server
    from dapr_shared.wire.http.messages import Handler, Request
    from dapr_shared.wire.http.server import HttpServer

LOOPBACK = "127.0.0.1"
HEADER_SLACK = 4096
ALL = ""
"""Every address, IPv4 and IPv6: daprd's default."""


@dataclass(slots=True)
class _Open:
    limits: ServerLimits
    options: ServerOptions
    http: list[HttpServer] = field(default_factory=list["HttpServer"])
    grpc: list[Server] = field(default_factory=list["Server"])


class FrontListeners:
    """Opens, closes and drains listeners."""

    def __init__(
        self,
        settings: Settings,
        http: Handler,
        grpc: GrpcFrontDoor,
        engine: Engine,
        events: Events,
        tls: FrontTls | None = None,
        peers: PeerFrontDoor | None = None,
    ) -> None:
        """With `tls` the shared listeners of the Dapr API speak TLS; all others are plain."""
        self._tls = tls
        self._settings = settings
        self._http = http
        self._methods: Sequence[Method] = grpc.table()
        self._unknown = grpc.unknown()
        self._engine = engine
        self._events = events
        self._shared = _Open(*bounds(settings.max_body_size, settings.read_buffer_size))
        self._peers = peers
        self._internal: list[Server] = []
        self._of_apps: dict[AppRef, tuple[Listeners, _Open]] = {}

    @property
    def http_addresses(self) -> list[str]:
        """Where the shared HTTP API listens."""
        return [server.address for server in self._shared.http]

    @property
    def grpc_addresses(self) -> list[str]:
        """Where the shared gRPC API listens."""
        return [server.address for server in self._shared.grpc]

    async def open_shared(self, app_id: str) -> None:
        """Open the listeners of the Dapr API. Raises `PortTakenError` if not one address of a port can be bound."""
        settings = self._settings
        identity_http, identity_grpc = ListenerIdentity("http"), ListenerIdentity("grpc")
        if settings.unix_domain_socket:
            folder = Path(settings.unix_domain_socket)
            base = f"unix:{folder}/dapr-{app_id or 'shared'}"
            await self._open_http(f"{base}-http.socket", identity_http, self._shared, "--unix-domain-socket")
            await self._open_grpc(f"{base}-grpc.socket", identity_grpc, self._shared, "--unix-domain-socket")
            return
        await self._open_any(
            settings.dapr_http_port,
            lambda address: self._open_http(address, identity_http, self._shared, "--dapr-http-port", self._tls),
        )
        await self._open_any(
            settings.dapr_grpc_port,
            lambda address: self._open_grpc(address, identity_grpc, self._shared, "--dapr-grpc-port", self._tls),
        )

    async def _open_any(self, port: int, opener: Callable[[str], object]) -> None:
        failures: list[PortTakenError] = []
        addresses = self._settings.dapr_listen_addresses or (ALL,)
        for address in addresses:
            try:
                await opener(joined(address, port))  # type: ignore[misc]
            except PortTakenError as error:
                failures.append(error)
        if len(failures) == len(addresses):
            raise failures[0]
        for failure in failures:
            self._events.listener_failed(str(failure))

    async def open_internal(self, ports: Sequence[int]) -> str:
        """Open the listener for other instances on the first of these ports that is free (0: any).

        Raises `PortTakenError`. Plain text: there is no mTLS between instances in this version.
        """
        if self._peers is None:
            raise RuntimeError("there is no front door for peers")
        settings = self._settings
        body = max(settings.max_body_size, 0)
        options = ServerOptions(
            max_message_bytes=body + MESSAGE_SLACK if body else 0, max_metadata_bytes=settings.read_buffer_size * 1024
        )
        identity = ListenerIdentity("internal")
        for port in ports:
            where = joined(settings.dapr_internal_grpc_listen_address, port)
            try:
                server = await self._engine.serve(
                    where, self._peers.table(), self._peers.unknown(), listener=identity, options=options
                )
            except OSError as error:
                if port != ports[-1]:
                    continue
                raise port_taken(where, "--dapr-internal-grpc-port", error) from error
            self._internal.append(server)
            self._events.listening(identity.name, "grpc", server.address)
            return server.address
        return ""

    async def open_of_app(self, ref: AppRef, listeners: Listeners) -> None:
        """Open the listeners that belong to an app. Raises `PortTakenError`; then none of them is open."""
        settings = self._settings
        body = settings.max_body_size if listeners.body_bytes is None else listeners.body_bytes
        header = settings.read_buffer_size if listeners.header_bytes is None else listeners.header_bytes
        opened = _Open(*bounds(body, header))
        try:
            if listeners.http_port:
                identity = ListenerIdentity(f"app {ref} http", ref)
                where = joined(LOOPBACK, listeners.http_port)
                await self._open_http(where, identity, opened, f"spec.listeners.httpPort of app {ref}")
            if listeners.unix_socket:
                identity = ListenerIdentity(f"app {ref} socket", ref)
                where = f"unix:{listeners.unix_socket}"
                await self._open_http(where, identity, opened, f"spec.listeners.unixSocket of app {ref}")
            if listeners.grpc_port:
                identity = ListenerIdentity(f"app {ref} grpc", ref)
                where = joined(LOOPBACK, listeners.grpc_port)
                await self._open_grpc(where, identity, opened, f"spec.listeners.grpcPort of app {ref}")
            if listeners.grpc_unix_socket:
                identity = ListenerIdentity(f"app {ref} grpc socket", ref)
                where = f"unix:{listeners.grpc_unix_socket}"
                await self._open_grpc(where, identity, opened, f"unixDomainSocket of app {ref}")
        except BaseException:
            await _drain(opened, 0)
            raise
        self._of_apps[ref] = (listeners, opened)

    def of_app(self, ref: AppRef) -> Listeners | None:
        """The listeners that are open for an app."""
        found = self._of_apps.get(ref)
        return found[0] if found else None

    def apps(self) -> Iterable[AppRef]:
        """The apps that have listeners open."""
        return list(self._of_apps)

    async def close_of_app(self, ref: AppRef, grace: float | None) -> None:
        """Close an app's listeners; its calls in flight finish within the grace (seconds)."""
        found = self._of_apps.pop(ref, None)
        if found is not None:
            await _drain(found[1], grace)

    async def drain(self, grace: float | None) -> None:
        """Stop accepting everywhere and wait for what is in flight, at most `grace` seconds (`None`: no limit)."""
        shared = self._shared
        everything = _Open(shared.limits, shared.options, list(shared.http), [*shared.grpc, *self._internal])
        for _, opened in self._of_apps.values():
            everything.http += opened.http
            everything.grpc += opened.grpc
        await _drain(everything, grace)

    async def _open_http(
        self, where: str, identity: ListenerIdentity, into: _Open, flag: str, tls: FrontTls | None = None
    ) -> None:
        try:
            server = await serve(
                where,
                self._http,
                listener=identity,
                limits=into.limits,
                ssl=tls.context if tls else None,
                on_defect=self._defect,
                on_trouble=partial(self._events.tls_trouble, identity.name),
            )
        except OSError as error:
            raise port_taken(where, flag, error) from error
        into.http.append(server)
        self._events.listening(identity.name, "https" if tls else "http", server.address)

    async def _open_grpc(
        self, where: str, identity: ListenerIdentity, into: _Open, flag: str, tls: FrontTls | None = None
    ) -> None:
        options = into.options
        if tls is not None:
            on_trouble = partial(self._events.tls_trouble, identity.name)
            options = replace(options, tls=tls.served, on_trouble=on_trouble)
        try:
            server = await self._engine.serve(where, self._methods, self._unknown, listener=identity, options=options)
        except OSError as error:
            raise port_taken(where, flag, error) from error
        into.grpc.append(server)
        self._events.listening(identity.name, "grpcs" if tls else "grpc", server.address)

    def _defect(self, request: Request, error: BaseException) -> None:
        self._events.defect(f"{request.method} {request.target[:100]!r}", error)


def bounds(body_bytes: int, header_bytes: int) -> tuple[ServerLimits, ServerOptions]:
    """The bounds of a listener over HTTP and over gRPC; a body of 0 bytes means no limit."""
    body = max(body_bytes, 0)
    # Go's server takes 4 KiB more than its limit says, and clients have come to rely on it.
    return (
        ServerLimits(header_bytes=header_bytes + HEADER_SLACK, body_bytes=body),
        ServerOptions(max_message_bytes=body, max_metadata_bytes=header_bytes * 1024),
    )


async def _drain(opened: _Open, grace: float | None) -> None:
    await asyncio.gather(
        *(server.drain(grace) for server in opened.http), *(server.stop(grace) for server in opened.grpc)
    )
