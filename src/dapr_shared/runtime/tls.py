"""TLS of the front doors: the files of the settings, read at start and whenever they change.

Assembly. One background task watches the files; what is wrong with new ones is told, and the old stay in force.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dapr_shared.resources.watch import changes
from dapr_shared.runtime.settings import Settings, SettingsError
from dapr_shared.wire.tls import ServerTls, TlsError, TlsFiles

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

    from dapr_shared.observability.events import Events

_DAY = 86_400.0


class FrontTls:
    """What the shared listeners serve, and its renewal."""

    def __init__(self, served: ServerTls, events: Events, grpc_engine: str) -> None:
        self.served = served
        self._grpc_engine = grpc_engine
        self._events = events
        self._watched = changes(served.files.paths())  # before anybody is served: no change is missed

    def context(self) -> ssl.SSLContext:
        """The context for a new HTTP connection."""
        return self.served.context

    def tell(self, *, again: bool = False) -> None:
        """Say what is in force."""
        served = self.served
        days_left = (served.not_after - time.time()) / _DAY
        self._events.tls_loaded(str(served.files.certificate), days_left=days_left, again=again)
        optional = served.files.client_ca is not None and not served.files.client_required
        if optional and not again and self._grpc_engine == "aio":
            self._events.setting_without_effect(
                "--tls-client-auth=optional",
                "with --grpc-engine=aio, which asks gRPC clients for no certificate then: they use tokens",
            )

    async def reload(self) -> None:
        """Read the files again. Raises nothing of what can be wrong with them."""
        try:
            changed = await asyncio.to_thread(self.served.reload)
        except TlsError as error:
            self._events.tls_load_failed(str(error))
            return
        if changed:
            self.tell(again=True)

    async def follow(self) -> None:
        """Reload whenever the files change."""
        watched: AsyncGenerator[None] = self._watched
        async for _ in watched:
            await self.reload()


def front_tls(settings: Settings, events: Events) -> FrontTls | None:
    """TLS as the settings want it; `None` where they want none. Raises `SettingsError`. Blocks."""
    if not settings.tls_cert:
        return None
    files = TlsFiles(
        Path(settings.tls_cert),
        Path(settings.tls_key),
        Path(settings.tls_client_ca) if settings.tls_client_ca else None,
        client_required=settings.tls_client_auth == "required",
    )
    try:
        served = ServerTls(files)
    except TlsError as error:
        raise SettingsError(str(error)) from error
    return FrontTls(served, events, settings.grpc_engine)
