"""One running instance: started, reloaded, drained, closed.

Assembly. The order of starting is daprd's (reference daprd-flags §5) as far as its steps exist here: resources, secret
stores, the other components, front doors; then the app's port is awaited in single-app mode.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import dapr_shared
from dapr_shared.components.pluggable.sockets import socket_names
from dapr_shared.runtime.assembly import Parts, assemble
from dapr_shared.runtime.embedded import state_directory
from dapr_shared.runtime.extra_listeners import ExtraListeners
from dapr_shared.runtime.observer import APP_PORT
from dapr_shared.runtime.operators.door import open_door
from dapr_shared.runtime.peers import internal_ports
from dapr_shared.runtime.reload import Reloader
from dapr_shared.runtime.sources import API_TOKEN, Sources
from dapr_shared.runtime.token_watch import TokenWatch
from dapr_shared.runtime.try_again import TryAgain

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine

    from dapr_shared.observability.events import Events
    from dapr_shared.observability.logs import Logs
    from dapr_shared.resources.model import Configuration
    from dapr_shared.runtime.settings import Settings

UNLIMITED_GRACE = 24 * 3600.0
"""Seconds that stand for no limit where a number is needed."""
_FLUSH, _LEAST_FLUSH = 3.0, 0.2
"""Seconds that the last spans may take to be sent: what the grace leaves, within these bounds."""
_SOCKETS_CHECK = 1.0
"""Seconds between two looks for new sockets of pluggable components: one listing of a folder."""
_BLOCK_CHECK = 0.1
"""Seconds between two looks at the app's health while shutdown is blocked."""


class StartGivenUpError(Exception):
    """The instance was told to stop before it had anything to serve."""


class Instance:
    """An instance and its background work."""

    def __init__(
        self,
        settings: Settings,
        configuration: Configuration | None,
        events: Events,
        logs: Logs,
        *,
        embedded: bool,
        stop: Callable[[bool], None],
        sources: Sources | None = None,
        extra: ExtraListeners | None = None,
    ) -> None:
        """Nothing is opened. Raises `SettingsError` where the flags do not make an instance.

        `sources`: where resources come from, in place of the flags. `extra`: the public port and that of metrics, where
        they are open already.
        """
        self._settings = settings
        self._configuration = configuration
        self._events = events
        self._logs = logs
        self._embedded = embedded
        self._extra = extra or ExtraListeners(settings, events)
        self._sources = sources or _sources(settings, events, embedded=embedded)
        self._sources.check()
        self.parts: Parts = assemble(
            settings,
            configuration,
            events,
            logs,
            single=self._sources.single_record(configuration),
            api_token=os.environ.get("DAPR_API_TOKEN") or None,
            stop=stop,
        )
        if self.parts.cluster is not None:
            self.parts.cluster.watch_pods(self._sources.pod)
        self._reloader = Reloader(self.parts, self._sources, configuration, events)
        self._reload_wanted = asyncio.Event()
        self._refresh_wanted = False
        self._given_up = asyncio.Event()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Start; close at the end. Raises one of `reload.WRONG_RESOURCES` or `PortTakenError`; then nothing is open."""
        started = perf_counter()
        parts = self.parts
        async with AsyncExitStack() as stack:
            parts.health.wait_for("runtime", "starting", outbound=True)
            if self._sources.remote:
                await self._wait_for_sources(stack)
            watched = self._sources.changes(hot_reload=self._hot_reload())  # before reading: nothing is missed
            resources = await self._sources.read_now()
            self._events.starting(dapr_shared.__version__, self._settings.mode, len(resources.apps))
            if self._settings.app_id and self._sources.multi_app and not os.environ.get(API_TOKEN):
                self._events.app_without_token(self._settings.app_id, API_TOKEN)
            if self._settings.single_app and self._settings.app_port:
                parts.health.wait_for(
                    APP_PORT, f"app port {self._settings.app_port} does not accept connections yet", outbound=False
                )
            await parts.start(stack)
            stack.push_async_callback(parts.outbox.close, 0.0)  # the last: requests that end may still need it
            stack.push_async_callback(parts.tracing.close, 0.0)
            stack.push_async_callback(parts.close_deliveries, 0.0)
            if not self._sources.remote:
                stack.callback(self._extra.close)
            stack.push_async_callback(parts.listeners.drain, 0)
            await self._reloader.start(resources)
            if not self._sources.remote:
                await self._listen_extra()
            await self._listen()
            if self._embedded:
                await open_door(state_directory(self._settings.data_dir), parts, self._events, self._logs, stack)
            self._follow(stack, watched)
            parts.health.ready("runtime")
            self._events.ready(perf_counter() - started)
            yield

    def _follow(self, stack: AsyncExitStack, watched: AsyncIterator[None] | None) -> None:
        """Begin the background work."""
        self._background(stack, self._reload_on_request(), "reload on request")
        if watched is not None:
            self._background(stack, self._reload_on_change(watched), "reload on change")
        if self.parts.tls is not None:
            self.parts.tls.tell()
            self._background(stack, self.parts.tls.follow(), "reload of TLS files")
        self._background(stack, self._reload_on_new_sockets(), "pluggable components")
        if self._sources.tolerant:
            again = TryAgain(self._reloader, away=lambda: self._sources.away)
            self._background(stack, again.run(), "another try for what was refused")
            tokens = TokenWatch(self._reloader, self.parts.loader.secrets, self._events)
            self._background(stack, tokens.run(), "a look at the secrets of tokens")
        status = self._sources.status(self.parts, self._reloader.refusals)
        if status is not None:
            self._background(stack, status, "status of apps")

    def request_reload(self) -> None:
        """Read the resources and secrets again soon (SIGHUP)."""
        self._refresh_wanted = True
        self._reload_wanted.set()

    async def failed(self) -> None:
        """Wait until background work has failed, and raise what it raised."""
        await asyncio.shield(self._failed)

    async def drain(self, grace: float | None) -> bool:
        """Stop accepting and let calls in flight finish; false if the grace (seconds, `None`: no limit) ended them."""
        started = perf_counter()
        # Subscriptions first: what comes from a broker is not begun any more, and what is in flight may still call us.
        await self.parts.close_deliveries(grace if grace is not None else UNLIMITED_GRACE)
        left = None if grace is None else max(grace - (perf_counter() - started), 0.0)
        await self.parts.listeners.drain(left)
        used = perf_counter() - started
        await self.parts.tracing.close(_FLUSH if grace is None else min(max(grace - used, _LEAST_FLUSH), _FLUSH))
        return grace is None or used < grace

    async def block_shutdown(self, seconds: float) -> None:
        """Keep serving for so long, or until the app is unhealthy (reference daprd-flags §6)."""
        deadline = perf_counter() + seconds
        while perf_counter() < deadline:
            channels = list(self.parts.channels.channels())
            if channels and not any(channel.healthy for channel in channels):
                return
            await asyncio.sleep(min(_BLOCK_CHECK, max(deadline - perf_counter(), 0)))

    async def _wait_for_sources(self, stack: AsyncExitStack) -> None:
        """Until there are resources nothing can be served but the probes, which say so."""
        stack.callback(self._extra.close)
        await self._listen_extra()
        await self._sources.start(stack, partial(self._background, stack))

        def waiting(problem: str) -> None:
            self.parts.health.wait_for(
                "runtime", f"the resources of the cluster are not known yet: {problem}", outbound=True
            )
            self._events.cluster_awaited(problem)

        known = asyncio.ensure_future(self._sources.wait_known(waiting))
        given_up = asyncio.ensure_future(self._given_up.wait())
        try:
            await asyncio.wait({known, given_up, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            if not known.done():
                raise StartGivenUpError
            known.result()
        finally:
            for task in (known, given_up):
                task.cancel()
            await asyncio.gather(known, given_up, return_exceptions=True)

    def give_up_start(self) -> None:
        """End the start, if it still waits for its resources."""
        self._given_up.set()

    async def _listen(self) -> None:
        """Open the doors for apps and for other instances."""
        settings, listeners = self._settings, self.parts.listeners
        if self._sources.shared_listeners:
            await listeners.open_shared(settings.app_id if settings.single_app else "")
        ports = internal_ports(settings)
        if ports:
            await listeners.open_internal(ports)

    async def _listen_extra(self) -> None:
        """The public port and that of metrics; both may be open already."""
        self._extra.serve(self.parts.public, self._events)
        await self._extra.open()

    def _hot_reload(self) -> bool:
        features = self._configuration.features if self._configuration else dict[str, bool]()
        return features.get("HotReload", True)

    def _background(self, stack: AsyncExitStack, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)

        def done(ended: asyncio.Future[None]) -> None:
            if ended.cancelled():
                return
            error = ended.exception()
            if error is not None and not self._failed.done():
                self._events.defect(name, error)
                self._failed.set_exception(error)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        task.add_done_callback(done)
        stack.push_async_callback(end)

    async def _reload_on_request(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            refresh, self._refresh_wanted = self._refresh_wanted, False
            if refresh and self.parts.tls is not None:
                await self.parts.tls.reload()
            await (self._reloader.refresh() if refresh else self._reloader.reload())

    async def _reload_on_new_sockets(self) -> None:
        """Open what waits for a pluggable component once its socket appears."""
        known = socket_names()
        while True:
            await asyncio.sleep(_SOCKETS_CHECK)
            found = socket_names()
            if found - known:
                await self._reloader.open_missing()
            known = found

    async def _reload_on_change(self, watched: AsyncIterator[None]) -> None:
        async for _ in watched:
            self._reload_wanted.set()


def _sources(settings: Settings, events: Events, *, embedded: bool) -> Sources:
    if settings.in_cluster:
        from dapr_shared.runtime.kubernetes_sources import KubernetesSources  # noqa: PLC0415 - a client only clusters need

        return KubernetesSources(settings, events)
    return Sources(settings, embedded=embedded)
