"""The outbox, second half: announced events whose transaction was carried out are published.

Delivery road, step 4 (block), from a broker back to a broker. An event is done with only after it was published and its
marker deleted; a process that is killed before leaves it at the broker, and it comes again: at least once. While the
store or the broker cannot be reached the event is held, not given back, so that no limit of redeliveries loses it.
Facts: reference behaviours §1.4.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from dapr_shared.blocks.pubsub.envelope import EventError, read_object
from dapr_shared.blocks.pubsub.topics import InternalTopics, consumer_group, topic_at_broker
from dapr_shared.blocks.state.outbox import MARKER_PREFIX, OutboxConfig, outbox_config, published_event
from dapr_shared.blocks.upkeep import Upkeep
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import Outcome, PubSub, SubscribeRequest
from dapr_shared.contracts.state import Consistency, DeleteRequest, GetRequest, StateStore
from dapr_shared.core import errors
from dapr_shared.core.errors import DaprError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from dapr_shared.blocks.state.outbox import Publisher
    from dapr_shared.contracts.pubsub import Message, Subscription
    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.events import Events

WAITS = (0.1, 0.4, 0.5, 1.5, 3.0, 3.0, 2.5)
"""Seconds between two looks for a marker. Their sum, 11, is how long a transaction may take (in Dapr too)."""
TROUBLE_FIRST = 0.5
TROUBLE_LONGEST = 5.0
"""Seconds between two tries while the store or the broker fails; without end, as long as the relay runs."""
RETRY_FIRST = 0.2
"""Seconds until subscribing to an internal topic is tried again."""
READY_TIMEOUT = 5.0
"""Seconds that a transaction waits for the subscription to the internal topic."""
MAX_IN_FLIGHT = 100
"""Events of one internal topic that are looked at side by side."""
STOP_GRACE = 5.0
"""Seconds that events in flight may take when their relay ends while the instance goes on."""
_MOST_ROLLED_BACK = 10_000
_SUBSCRIBED_AT_ONCE = 16

_MARKER = re.compile(MARKER_PREFIX + "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
"""An event's id names the key that is read and deleted, and anyone who may publish could have made it up."""


class _Key(NamedTuple):
    app: AppRef
    pubsub: str
    topic: str
    """At the app's side of the broker."""


class _Stores(NamedTuple):
    """The stores whose events one internal topic carries: a marker is in one of them."""

    configs: tuple[tuple[str, OutboxConfig], ...]


class _Stopping(Exception):  # noqa: N818 - no error: the relay ends while an event waits
    pass


class _Running:
    """One internal topic and what runs for it."""

    def __init__(self, key: _Key, stores: _Stores, component: Opened[PubSub[Any]]) -> None:
        self.key = key
        self.stores = stores
        self.component = component
        self.subscription: Subscription | None = None
        self.stopping = asyncio.Event()


class OutboxRelays:
    """The relays of all apps of an instance. All methods belong to the event loop."""

    def __init__(
        self, components: Components, publisher: Publisher, events: Events, internal: InternalTopics | None = None
    ) -> None:
        """`internal`: is told which topics are internal ones, and so closed to apps."""
        self._internal = internal or InternalTopics()
        self._components = components
        self._publisher = publisher
        self._events = events
        self._apps: frozenset[AppRef] = frozenset()
        self._running: dict[_Key, _Running] = {}
        self._problems: dict[_Key, str] = {}
        self._rolled_back: OrderedDict[str, None] = OrderedDict()
        self._changed = asyncio.Event()
        """Set, and replaced, whenever a relay has begun to run: for `wait_for`."""
        self._upkeep = Upkeep("outbox relays", self._look, events, first=RETRY_FIRST)

    # What the rest tells ---------------------------------------------------------------------------------------------

    def set_apps(self, apps: Collection[AppRef]) -> None:
        """Serve exactly these apps, with the components that are open now."""
        self._apps = frozenset(apps)
        self._reserve()
        self._upkeep.kick()

    def _reserve(self) -> None:
        """Close the internal topics to apps, before anybody can subscribe to one."""
        names: set[str] = set()
        for key in self._wanted():
            component = self._components.find(cast("type[PubSub[Any]]", PubSub), key.app, key.pubsub)
            names.add(topic_at_broker(component, key.app, key.topic) if component is not None else key.topic)
        self._internal.replace(names)

    def rolled_back(self, markers: Iterable[str]) -> None:
        """These transactions have certainly not been carried out; the newest are remembered."""
        for marker in markers:
            self._rolled_back[marker] = None
        while len(self._rolled_back) > _MOST_ROLLED_BACK:
            self._rolled_back.popitem(last=False)

    async def wait_for(self, app: AppRef, config: OutboxConfig) -> None:
        """Return once the internal topic has its subscription: before, a new group might miss what is published.

        Raises `PUBSUB_OUTBOX` after `READY_TIMEOUT`.
        """
        key = _Key(app, config.internal_pubsub, config.internal_topic(app))
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                while key not in self._running:
                    await self._changed.wait()
        except TimeoutError:
            problem = self._problems.get(key, "not yet")
            detail = f"the internal topic of pubsub {config.internal_pubsub} is not subscribed to: {problem}"
            raise errors.PUBSUB_OUTBOX(detail=detail, info={"appID": app.app_id, "error": detail}) from None

    async def close(self, grace: float) -> None:
        """End all relays; what they have not finished goes back to its broker."""
        await self._upkeep.close()
        running, self._running = list(self._running.values()), {}
        await asyncio.gather(*(self._stop(one, grace) for one in running))

    # Subscribing -----------------------------------------------------------------------------------------------------

    async def _look(self) -> bool:
        """Do what is missing; false: something has to be tried again."""
        wanted: dict[_Key, _Running] = {}
        self._problems = {key: problem for key, problem in self._problems.items() if key.app in self._apps}
        for key, stores in self._wanted().items():
            component = self._components.find(cast("type[PubSub[Any]]", PubSub), key.app, key.pubsub)
            if component is None:  # looked at again when components change
                self._note(key, f"there is no pubsub component {key.pubsub} in scope of the app")
                continue
            wanted[key] = _Running(key, stores, component)
        for key, running in list(self._running.items()):
            new = wanted.get(key)
            if new is not None and new.component.component is running.component.component:
                running.stores = new.stores
                del wanted[key]
                continue
            del self._running[key]
            await self._stop(running, STOP_GRACE)
        at_once = asyncio.Semaphore(_SUBSCRIBED_AT_ONCE)

        async def one(running: _Running) -> bool:
            async with at_once:
                return await self._start(running)

        return all(await asyncio.gather(*map(one, wanted.values())))

    def _wanted(self) -> dict[_Key, _Stores]:
        found: dict[_Key, list[tuple[str, OutboxConfig]]] = {}
        for app in sorted(self._apps):
            for opened in self._components.visible(app):
                config = outbox_config(opened) if isinstance(opened.component, StateStore) else None
                if config is not None:
                    key = _Key(app, config.internal_pubsub, config.internal_topic(app))
                    found.setdefault(key, []).append((opened.name, config))
        return {key: _Stores(tuple(configs)) for key, configs in found.items()}

    async def _start(self, running: _Running) -> bool:
        key, component = running.key, running.component
        request = SubscribeRequest(
            topic_at_broker(component, key.app, key.topic),
            consumer_group(component, key.app),
            max_in_flight=MAX_IN_FLIGHT,
        )
        try:
            running.subscription = await component.component.subscribe(request, self._handler(running))
        except BackendError as error:
            self._note(key, str(error))
            return False
        self._running[key] = running
        self._problems.pop(key, None)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._events.subscription_started(key.app, key.pubsub, key.topic)
        return True

    async def _stop(self, running: _Running, grace: float) -> None:
        running.stopping.set()
        if running.subscription is not None:
            await running.subscription.stop(grace)
            self._events.subscription_stopped(running.key.app, running.key.pubsub, running.key.topic)

    def _note(self, key: _Key, problem: str) -> None:
        if self._problems.get(key) != problem:
            self._problems[key] = problem
            self._events.subscription_failed(key.app, key.pubsub, key.topic, problem)

    # Events ----------------------------------------------------------------------------------------------------------

    def _handler(self, running: _Running) -> Callable[[Message], Any]:
        async def handle(message: Message) -> Outcome:
            try:
                return await self._relay(running, message)
            except _Stopping:
                return Outcome.RELEASED
            except Exception as error:  # noqa: BLE001 - a defect of ours loses no event: it comes again
                self._events.defect(f"outbox of {running.key.app}", error)
                return Outcome.RETRY

        return handle

    async def _relay(self, running: _Running, message: Message) -> Outcome:
        key = running.key
        try:
            members = read_object(message.data)
            marker = msgspec.json.decode(members["id"], type=str)
        except (EventError, KeyError, msgspec.MsgspecError):
            marker, members = "", dict[str, msgspec.Raw]()
        if not _MARKER(marker):
            self._events.message_dropped(key.app, key.pubsub, key.topic, "it is no event of an outbox")
            return Outcome.ACCEPTED
        found = await self._find(running, marker)
        if found is None:
            if marker in self._rolled_back:
                return Outcome.ACCEPTED
            problem = "its transaction is not in the state store"
            if all(config.discard_when_missing for _, config in running.stores.configs):
                self._events.message_dropped(key.app, key.pubsub, key.topic, problem)
                return Outcome.ACCEPTED
            self._events.delivery_failed(key.app, key.pubsub, key.topic, problem)
            return Outcome.RETRY
        name, config = found
        event = published_event(members, config)
        while not await self._publish(running, config, event):
            pass
        while not await self._forget(running, name, marker):
            pass
        return Outcome.ACCEPTED

    async def _find(self, running: _Running, marker: str) -> tuple[str, OutboxConfig] | None:
        """The store where the marker is, once it is there; `None` after `WAITS`, or where nobody will write it."""
        delay = TROUBLE_FIRST
        waits = iter(WAITS)
        while True:
            # Asked before looking: what is rolled back after a first try that did succeed has its marker by now.
            certain = marker in self._rolled_back
            trouble = ""
            for name, config in running.stores.configs:
                store = self._store(running, name)
                try:
                    value = store and await store.component.get(GetRequest(marker, Consistency.STRONG))
                except BackendError as error:
                    trouble = str(error)
                    continue
                if store is None:
                    trouble = f"the state store {name} is not open"
                elif value is not None and value.data:
                    return name, config
            if trouble:
                delay = await self._wait_out(running, trouble, delay)
                continue
            if certain:
                return None
            wait = next(waits, None)
            if wait is None:
                return None
            await self._pause(running, wait)

    async def _publish(self, running: _Running, config: OutboxConfig, event: bytes) -> bool:
        try:
            await self._publisher.forward(running.key.app, config.publish_pubsub, config.publish_topic, event)
        except DaprError as error:
            await self._wait_out(running, str(error), TROUBLE_LONGEST)
            return False
        return True

    async def _forget(self, running: _Running, name: str, marker: str) -> bool:
        store = self._store(running, name)
        problem = f"the state store {name} is not open"
        if store is not None:
            try:
                await store.component.delete(DeleteRequest(marker))
            except BackendError as error:
                problem = str(error)
            else:
                return True
        await self._wait_out(running, problem, TROUBLE_FIRST)
        return False

    def _store(self, running: _Running, name: str) -> Opened[StateStore[Any]] | None:
        """As it is now: a reload may have opened another one."""
        return self._components.find(cast("type[StateStore[Any]]", StateStore), running.key.app, name)

    async def _wait_out(self, running: _Running, problem: str, delay: float) -> float:
        """Tell of the trouble and wait; the delay for the next time."""
        key = running.key
        self._events.delivery_failed(key.app, key.pubsub, key.topic, f"held: {problem}")
        await self._pause(running, delay)
        return min(delay * 2, TROUBLE_LONGEST)

    async def _pause(self, running: _Running, seconds: float) -> None:
        """Wait; raises `_Stopping` when the relay ends meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await running.stopping.wait()
        except TimeoutError:
            return
        raise _Stopping
