"""The configuration block: read items, subscribe to changes, and end subscriptions.

Step 4 of the request road, and of the delivery road for changes. A subscription belongs to the app that made it: only
that app can end it, and only it is told. Over gRPC it ends with its call. Over HTTP it lasts until it is ended, or its
app or its component is removed; it is kept over restarts of the instance, and its changes are POSTed to the app
(`delivery.py`). Facts: reference http-api §6 and §13,
grpc-api §1.4.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from dapr_shared.blocks.configuration.listener import MAX_PENDING, Listener
from dapr_shared.blocks.counted import Counted
from dapr_shared.blocks.upkeep import Upkeep
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.configuration import ConfigurationStore, GetConfigurationRequest, Items
from dapr_shared.core import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dapr_shared.blocks.configuration.delivery import ConfigurationDelivery
    from dapr_shared.blocks.presence import Presence, Presences
    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.core.ids import AppRef
    from dapr_shared.identity.caller import Caller
    from dapr_shared.observability.dapr_metrics import DaprMetrics
    from dapr_shared.observability.events import Events

MAX_SUBSCRIPTIONS = 1_000
"""Subscriptions of one app at a time, of both protocols."""


class KeptSubscription(msgspec.Struct, frozen=True):
    """One subscription over HTTP, as it is kept over restarts."""

    id: str
    store: str
    keys: tuple[str, ...] = ()
    metadata: dict[str, str] = {}


class Memory(Protocol):
    """Keeps each app's subscriptions over HTTP over restarts of the instance."""

    def load(self, app: AppRef) -> Sequence[KeptSubscription]:
        """What was kept last."""
        ...

    def save(self, app: AppRef, subscriptions: Sequence[KeptSubscription], /) -> None:
        """Keep these instead."""
        ...


class ConfigurationBlock:
    """Configuration for many apps."""

    def __init__(
        self,
        components: Components,
        presences: Presences,
        delivery: ConfigurationDelivery,
        memory: Memory,
        metrics: DaprMetrics,
        events: Events,
    ) -> None:
        self._components = components
        self._presences = presences
        self._delivery = delivery
        self._memory = memory
        self._metrics = metrics
        self._events = events
        self._listeners: dict[str, Listener] = {}
        self._configured: Callable[[AppRef, str], bool] = lambda _app, _store: True
        self._closed = False
        self._recalled: set[AppRef] = set()
        """Apps whose kept subscriptions are among the listeners."""
        self._upkeep = Upkeep("configuration subscriptions", self._look, events)
        presences.follow(self)

    async def get(self, caller: Caller, store: str, keys: Sequence[str], metadata: Mapping[str, str]) -> Items:
        """The items under these keys, all where there are none. Raises `CONFIGURATION_GET` and what finding raises."""
        opened = self._store(caller, store)
        with Counted(self._metrics.configuration_operation, caller, opened, "get") as counted:
            if opened.turns is not None:
                await counted.turn()
            try:
                return await opened.component.get(GetConfigurationRequest(tuple(keys), metadata))
            except BackendError as error:
                raise errors.CONFIGURATION_GET(keys=_shown(keys), store=store, detail=error) from error

    async def open_stream(
        self, caller: Caller, store: str, keys: Sequence[str], metadata: Mapping[str, str]
    ) -> Listener:
        """Subscribe; the changes are taken from what this returns, which `close` ends.

        Raises `CONFIGURATION_SUBSCRIBE`, `CONFIGURATION_TOO_MANY_SUBSCRIPTIONS` and what finding raises.
        """
        opened = self._store(caller, store)
        return await self._subscribe(caller, opened, keys, metadata)

    async def subscribe_app(self, caller: Caller, store: str, keys: Sequence[str], metadata: Mapping[str, str]) -> str:
        """Subscribe the app itself, which is called for each change; the subscription's id.

        An app that has just this subscription gets the same id: one that starts again, and subscribes again, is not
        told twice. Raises `APP_CHANNEL_NIL` and what `open_stream` raises.
        """
        opened = self._store(caller, store)
        presence = self._presences.get(caller.ref)
        if presence is None or presence.channel is None:
            raise errors.APP_CHANNEL_NIL(detail="cannot subscribe to configuration updates")
        known = self._same(caller, store, keys, metadata)
        if known is not None:
            return known.id
        listener = await self._subscribe(caller, opened, keys, metadata)
        known = self._same(caller, store, keys, metadata)
        if known is not None:  # the app asked twice at the same time
            await self.close(listener)
            return known.id
        self._deliver(listener, presence)
        self._keep(caller.ref)  # before the app is answered: what it was promised survives
        return listener.id

    async def unsubscribe(self, caller: Caller, store: str, listener_id: str) -> None:
        """End a subscription of the caller's app. Raises `CONFIGURATION_UNSUBSCRIBE` and what finding raises."""
        opened = self._store(caller, store)
        with Counted(self._metrics.configuration_operation, caller, opened, "unsubscribe"):
            await self._unsubscribe(caller, listener_id, store)

    async def unsubscribe_stream(self, caller: Caller, listener_id: str) -> None:
        """The same by the id alone, as gRPC has it. Raises `CONFIGURATION_UNSUBSCRIBE`."""
        await self._unsubscribe(caller, listener_id, None)

    async def close(self, listener: Listener) -> None:
        """End one subscription. Twice does no harm."""
        self._listeners.pop(listener.id, None)
        listener.end()
        task, listener.task = listener.task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await listener.unbind()

    # What happens ----------------------------------------------------------------------------------------------------

    def app_changed(self, presence: Presence, *, came: bool) -> None:  # noqa: ARG002 - nothing is asked of the app
        """See `PresenceFollower`; who brings changes waits at the presence itself. A new app's subscriptions are recalled."""
        ref = presence.ref
        if ref in self._recalled or presence.channel is None or self._closed:
            return
        self._recalled.add(ref)
        for kept in self._memory.load(ref)[:MAX_SUBSCRIPTIONS]:
            if kept.id not in self._listeners:
                listener = Listener(ref, kept.store, _sorted(kept.keys), kept.metadata, self._overflow, id=kept.id)
                self._listeners[listener.id] = listener
                self._deliver(listener, presence)
                self.components_changed()  # binds it, and tells what is there: something may have changed meanwhile

    def app_gone(self, presence: Presence) -> None:
        """The app is removed: its subscriptions end, and are forgotten."""
        for listener in self._of(presence.ref):
            listener.end()
        self._recalled.discard(presence.ref)
        if self._memory.load(presence.ref):
            self._memory.save(presence.ref, ())
        self.components_changed()

    def set_configured(self, configured: Callable[[AppRef, str], bool]) -> None:
        """From now on this says whether a resource gives the app a component of a name, be it open or not."""
        self._configured = configured

    def components_changed(self) -> None:
        """Components were opened or closed, or scopes have changed: look whose subscription is where it should be."""
        self._upkeep.kick()

    async def aclose(self) -> None:
        """End all subscriptions; the streams of gRPC end with them."""
        self._closed = True
        await self._upkeep.close()
        await asyncio.gather(*(self.close(listener) for listener in list(self._listeners.values())))

    # ------------------------------------------------------------------------------------------------------------------

    def _same(self, caller: Caller, store: str, keys: Sequence[str], metadata: Mapping[str, str]) -> Listener | None:
        """The app's own subscription for just this, if it has one."""
        wanted = _sorted(keys)
        for known in self._listeners.values():
            if known.ref == caller.ref and known.task is not None and known.same(store, wanted, metadata):
                return known
        return None

    async def _subscribe(
        self,
        caller: Caller,
        opened: Opened[ConfigurationStore[Any]],
        keys: Sequence[str],
        metadata: Mapping[str, str],
    ) -> Listener:
        if len(self._of(caller.ref)) >= MAX_SUBSCRIPTIONS:
            raise errors.CONFIGURATION_TOO_MANY_SUBSCRIPTIONS(app=caller.app_id, limit=MAX_SUBSCRIPTIONS)
        listener = Listener(caller.ref, opened.name, _sorted(keys), metadata, self._overflow)
        self._listeners[listener.id] = listener  # counted, and ended with its app, from now on
        try:
            with Counted(self._metrics.configuration_operation, caller, opened, "subscribe"):
                await listener.bind(opened.component, catch_up=False)
        except BackendError as error:
            await self.close(listener)
            raise errors.CONFIGURATION_SUBSCRIBE(keys=_shown(keys), store=opened.name, detail=error) from error
        except BaseException:
            await self.close(listener)
            raise
        return listener

    async def _unsubscribe(self, caller: Caller, listener_id: str, store: str | None) -> None:
        listener = self._listeners.get(listener_id)
        # Whether another app has a subscription of this id is nobody's business.
        if listener is None or listener.ref != caller.ref or (store is not None and listener.store != store):
            raise errors.CONFIGURATION_UNSUBSCRIBE(id=listener_id, detail="subscription does not exist")
        kept = listener.task is not None
        await self.close(listener)
        if kept:
            self._keep(caller.ref)

    def _deliver(self, listener: Listener, presence: Presence) -> None:
        work = self._delivery.run(listener, presence)
        listener.task = asyncio.create_task(work, name=f"configuration of {listener.store} for {listener.ref}")

    def _keep(self, ref: AppRef) -> None:
        """Keep what the app is subscribed to over HTTP now."""
        self._memory.save(
            ref,
            [
                KeptSubscription(listener.id, listener.store, listener.keys, dict(listener.metadata))
                for listener in self._of(ref)
                if listener.task is not None and not listener.ended
            ],
        )

    async def _look(self) -> bool:
        done = True
        for listener in list(self._listeners.values()):
            done &= await self._look_at(listener)
        return done

    async def _look_at(self, listener: Listener) -> bool:
        """Bring one subscription in step with the components; false where that has to be tried again."""
        if listener.ended:
            await self.close(listener)
            return True
        opened = self._find(listener.ref, listener.store)
        if opened is None:
            if listener.task is None:  # a stream: its client sees the end, and subscribes elsewhere or gives up
                await self.close(listener)
            elif self._configured(listener.ref, listener.store):  # it lives on: the component could not be opened
                await listener.unbind()
            else:
                await self.close(listener)
                self._keep(listener.ref)
            return True
        if opened.component is listener.component:
            return True
        try:
            await listener.bind(opened.component, catch_up=True)
        except BackendError as error:
            self._events.configuration_failed(listener.ref, listener.store, str(error))
            await listener.unbind()
            return False
        return True

    def _of(self, ref: AppRef) -> list[Listener]:
        return [listener for listener in self._listeners.values() if listener.ref == ref]

    def _overflow(self, listener: Listener) -> None:
        self._events.configuration_overflow(listener.ref, listener.store, MAX_PENDING)

    def _find(self, ref: AppRef, store: str) -> Opened[ConfigurationStore[Any]] | None:
        # The contract stands for all its adapters, whatever their settings are.
        return self._components.find(cast("type[ConfigurationStore[Any]]", ConfigurationStore), ref, store)

    def _store(self, caller: Caller, store: str) -> Opened[ConfigurationStore[Any]]:
        opened = self._find(caller.ref, store)
        if opened is not None:
            return opened
        if self._components.has(ConfigurationStore, caller.ref):
            raise errors.CONFIGURATION_NOT_FOUND(store=store)
        raise errors.CONFIGURATION_NOT_CONFIGURED()


def _sorted(keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(keys)))


def _shown(keys: Sequence[str]) -> str:
    """Keys as daprd prints them."""
    return f"[{' '.join(keys)}]"
