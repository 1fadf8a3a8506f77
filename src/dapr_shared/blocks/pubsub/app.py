"""The subscriptions of one app: kept in step with what it wants and whether it can be reached.

Delivery road, step 4 (block). Whatever happens (the app comes, goes, changes its mind, a component is reloaded), the
answer is the same: look at the present state and do what is missing. So events may come in any order, twice, or be
merged, and a failure is mended by the next look. Rules: design §5.14 and §5.16.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - part of a public data class
from typing import TYPE_CHECKING, Any, Protocol, cast

from dapr_shared.blocks.attendance import DOUBT_CHECK, Attendance
from dapr_shared.blocks.pubsub.subscriptions import MergedSubscriptions, TopicSubscription, merge
from dapr_shared.blocks.pubsub.topics import consumer_group, topic_at_broker
from dapr_shared.blocks.upkeep import Upkeep
from dapr_shared.channel.callbacks import AskedSubscription, SubscriptionListError, list_subscriptions
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.invocation import ChannelError
from dapr_shared.contracts.pubsub import PubSub, SubscribeRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dapr_shared.channel.base import AppChannel
    from dapr_shared.contracts.pubsub import Handler
    from dapr_shared.contracts.pubsub import Subscription as BrokerSubscription
    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.core.clock import Clock
    from dapr_shared.core.ids import AppRef
    from dapr_shared.observability.events import Events
    from dapr_shared.resources.model import Subscription

ASK_TIMEOUT = 10.0
"""Seconds that an app may take to list its subscriptions."""
DEFAULT_IN_FLIGHT = 100
"""Messages of one subscription with the app at a time, where the app sets no limit."""


class Memory(Protocol):
    """Keeps an app's last answer over restarts of the instance."""

    def load(self, app: AppRef) -> Sequence[AskedSubscription]:
        """The last answer; empty when there is none."""
        ...

    def save(self, app: AppRef, asked: Sequence[AskedSubscription], /) -> None:
        """Keep this answer."""
        ...


class Deliveries(Protocol):
    """Makes the handler that brings messages to an app."""

    def handler(
        self, subscriptions: AppSubscriptions, subscription: TopicSubscription, component: Opened[PubSub[Any]]
    ) -> Handler:
        """The handler of one subscription. Raises `ValueError` for a rule that does not compile."""
        ...


@dataclass(slots=True)
class Running:
    """One subscription and what runs for it."""

    wanted: TopicSubscription
    component: Opened[PubSub[Any]] | None = None
    broker: BrokerSubscription | None = None
    group: str = ""
    """The consumer group that it is in."""
    paused: bool = False
    problem: str = ""
    """Why it does not run; empty when it does."""
    since: datetime | None = None
    """When it was paused or began to fail."""

    @property
    def state(self) -> str:
        """`active`, `paused` or `failed`."""
        return "failed" if self.broker is None else "paused" if self.paused else "active"


class AppSubscriptions(Attendance):
    """One app's subscriptions. All methods belong to the event loop; `kick` starts a look, at most one at a time."""

    def __init__(
        self,
        ref: AppRef,
        components: Components,
        deliveries: Deliveries,
        memory: Memory,
        events: Events,
        clock: Clock,
    ) -> None:
        super().__init__()
        self.ref = ref
        self._components = components
        self._deliveries = deliveries
        self._memory = memory
        self._events = events
        self._clock = clock
        self.running: dict[tuple[str, str], Running] = {}
        self._declared: Sequence[Subscription] = ()
        self._asked: Sequence[AskedSubscription] = memory.load(ref)
        self._ask = True
        self.upkeep = Upkeep(f"subscriptions of {ref}", self._look, events)

    # What happens ----------------------------------------------------------------------------------------------------

    def set(self, channel: AppChannel | None, declared: Sequence[Subscription], *, changed: bool) -> None:
        """The app's channel and the declared subscriptions now; `changed`: its App resource is another."""
        self.channel = channel
        self._declared = declared
        self._ask = self._ask or changed
        self.kick()

    def reachable_changed(self, *, reachable: bool) -> None:
        """The app's port has begun or ceased to accept connections."""
        self._looked_at(reachable=reachable)
        if reachable:
            self._ask = True
            self.upkeep.hurry()
        self.kick()

    def doubt(self) -> None:
        """A delivery did not reach the app: pause, and look whether it is there."""
        if self._begin_doubt():
            self.kick()

    def refresh(self) -> None:
        """Ask the app again for its subscriptions, and forget that its deliveries were stopped."""
        self._ask = True
        self._stopped = ""
        self.kick()

    def stop_deliveries(self, why: str) -> None:
        """Deliver nothing until `refresh` or until the app is reachable anew."""
        self._stopped = why
        self.kick()

    def kick(self) -> None:
        """Look at the state soon and do what is missing."""
        self.upkeep.kick()

    async def close(self, grace: float) -> None:
        """End all subscriptions; what is in flight may take `grace` seconds."""
        await self.upkeep.close()
        running, self.running = list(self.running.values()), {}
        await asyncio.gather(*(self._stop(one, grace) for one in running))

    def settled(self) -> bool:
        """Whether nothing is left to do now; for tests and `refresh`."""
        return self.upkeep.settled

    # What is done ----------------------------------------------------------------------------------------------------

    async def _look(self) -> bool:
        failed = False
        if self._doubted and self.channel is not None:
            if await self.channel.reachable():
                self._doubted = False
            else:
                self._ask = True  # it went: when it is back it may want something else
                self.channel.on_unreachable()
        why = self.absent()
        if why is None and self._ask:
            failed = not await self._ask_app()
        if self.channel is None:
            # As in Dapr: without a channel nothing can ever be delivered, and a group that nobody drains fills the broker.
            merged = MergedSubscriptions(())
        else:
            merged = merge(self.ref, self._declared, self._asked, grpc=self._speaks_grpc())
        self._tell_ignored(merged)
        await self._drop_unwanted(merged)
        for wanted in merged.wanted:
            running = self.running.setdefault(wanted.key, Running(wanted))
            if running.broker is None and not await self._start(running):
                failed = True
            await self._pause_or_resume(running, why)
        if self._doubted and not failed:
            self.upkeep.again_in(DOUBT_CHECK)
        return not failed

    async def _ask_app(self) -> bool:
        channel = self.channel
        if channel is None:
            return True
        try:
            asked = await list_subscriptions(channel, timeout=ASK_TIMEOUT)
        except ChannelError as error:
            self._events.subscriptions_unknown(self.ref, str(error))
            return False
        except SubscriptionListError as error:  # Dapr takes any other answer for none; the last good one is better
            self._events.subscriptions_unknown(self.ref, str(error))
            self._ask = False
            return True
        self._ask = False
        if list(asked) != list(self._asked):
            self._memory.save(self.ref, asked)
            self._asked = asked
        return True

    async def _drop_unwanted(self, merged: MergedSubscriptions) -> None:
        wanted = {subscription.key: subscription for subscription in merged.wanted}
        for key, running in list(self.running.items()):
            component = self._component(running.wanted.pubsub)
            same_place = (
                component is not None
                and running.component is not None
                and component.component is running.component.component
                and consumer_group(component, self.ref) == running.group  # another one after a change of its scopes
            )
            if wanted.get(key) != running.wanted or (running.broker is not None and not same_place):
                del self.running[key]
                await self._stop(running, 0.0 if running.component is None else 5.0)

    async def _start(self, running: Running) -> bool:
        wanted = running.wanted
        component = self._component(wanted.pubsub)
        if component is None:
            self._note(running, f"there is no pubsub component {wanted.pubsub} in scope of the app")
            return True  # it is started when the component is there: nothing to try again
        try:
            handler = self._deliveries.handler(self, wanted, component)
        except ValueError as error:
            self._note(running, str(error))
            return True
        limit = self.channel.properties.max_concurrency if self.channel is not None else 0
        group = consumer_group(component, self.ref)
        request = SubscribeRequest(
            topic_at_broker(component, self.ref, wanted.topic),
            group,
            wanted.metadata,
            max(limit or DEFAULT_IN_FLIGHT, wanted.bulk.max_messages if wanted.bulk else 1),
        )
        try:
            running.broker = await component.component.subscribe(request, handler)
        except BackendError as error:
            self._note(running, str(error))
            return False
        running.component, running.group = component, group
        running.paused, running.problem, running.since = False, "", None
        self._events.subscription_started(self.ref, wanted.pubsub, wanted.topic)
        return True

    async def _pause_or_resume(self, running: Running, why: str | None) -> None:
        if running.broker is None:
            return
        if why is not None:
            if not running.paused:
                await running.broker.pause()
                running.paused, running.since = True, self._clock.now()
                self._events.subscription_paused(self.ref, running.wanted.pubsub, running.wanted.topic, why)
            running.problem = why
        elif running.paused:
            await running.broker.resume()
            running.paused, running.problem, running.since = False, "", None
            self._events.subscription_resumed(self.ref, running.wanted.pubsub, running.wanted.topic)

    async def _stop(self, running: Running, grace: float) -> None:
        if running.broker is not None:
            await running.broker.stop(grace)
            running.broker = None
            self._events.subscription_stopped(self.ref, running.wanted.pubsub, running.wanted.topic)

    def _component(self, name: str) -> Opened[PubSub[Any]] | None:
        return self._components.find(cast("type[PubSub[Any]]", PubSub), self.ref, name)

    def _speaks_grpc(self) -> bool:
        return self.channel is not None and self.channel.properties.protocol in ("grpc", "grpcs")

    def _note(self, running: Running, problem: str) -> None:
        if running.problem != problem:
            running.problem, running.since = problem, self._clock.now()
            self._events.subscription_failed(self.ref, running.wanted.pubsub, running.wanted.topic, problem)

    def _tell_ignored(self, merged: MergedSubscriptions) -> None:
        for ignored in merged.ignored:
            self._events.resource_notice(f"app {self.ref}: {ignored}")
