"""The input bindings of one app: kept in step with what it wants and whether it can be reached.

Delivery road, step 4 (block). Whatever happens (the app comes, goes, changes; a component is reloaded), the answer is
the same: look at the present state and do what is missing. An app that is away is not asked and gets nothing: its
readings pause, and what the external system keeps waits there (design §5.14). An app that comes back is asked again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from dapr_shared.blocks.bindings.delivery import route_of
from dapr_shared.blocks.bindings.output import INPUT, has_direction
from dapr_shared.blocks.upkeep import Upkeep
from dapr_shared.channel.binding_callbacks import list_bindings, wants_binding
from dapr_shared.channel.grpc import GrpcAppChannel
from dapr_shared.contracts.bindings import BindingCapability, InputBinding, ReadRequest
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.invocation import ChannelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dapr_shared.blocks.bindings.delivery import BindingDeliveries
    from dapr_shared.blocks.presence import Presence
    from dapr_shared.channel.base import AppChannel
    from dapr_shared.contracts.bindings import Reading
    from dapr_shared.contracts.registry import Components, Opened
    from dapr_shared.observability.events import Events

    AnyInput = Opened[InputBinding[Any]]

ASK_TIMEOUT = 3.0
"""Seconds that an app may take to say whether it wants a binding; Dapr's value (reference http-api §13)."""
DEFAULT_IN_FLIGHT = 100
"""Events of one binding with the app at a time, where the app sets no limit."""
STOP_GRACE = 5.0
"""Seconds that events in flight may take when a reading ends while the instance goes on."""


@dataclass(slots=True)
class Running:
    """One binding that the app reads."""

    component: AnyInput
    reading: Reading
    paused: bool = False


class AppBindings:
    """One app's input bindings. All methods belong to the event loop; `kick` starts a look, at most one at a time."""

    def __init__(
        self, presence: Presence, components: Components, deliveries: BindingDeliveries, events: Events
    ) -> None:
        self.presence = presence
        self.running: dict[str, Running] = {}
        self._components = components
        self._deliveries = deliveries
        self._events = events
        self._answers: dict[str, bool] = {}
        """What the app last said, by binding; bindings that it was not asked about are missing."""
        self._ask = True
        self._upkeep = Upkeep(f"input bindings of {presence.ref}", self._look, events)

    def kick(self, *, ask: bool = False) -> None:
        """Look at the state soon and do what is missing; `ask`: ask the app again as well."""
        if ask:
            self._ask = True
            self._upkeep.hurry()
        self._upkeep.kick()

    async def close(self, grace: float) -> None:
        """End all readings; what is in flight may take `grace` seconds."""
        await self._upkeep.close()
        running, self.running = dict(self.running), {}
        await asyncio.gather(*(self._stop(name, one, grace) for name, one in running.items()))

    async def _look(self) -> bool:
        """Do what is missing; false where something has to be tried again."""
        inputs = self._inputs()
        for name, running in list(self.running.items()):
            if name not in inputs or inputs[name].component is not running.component.component:
                del self.running[name]
                await self._stop(name, running, STOP_GRACE)
        done = True
        if self.presence.absent() is None:
            done = await self._ask_app(inputs)
        for name in [name for name in self.running if not self._wanted(inputs[name])]:
            await self._stop(name, self.running.pop(name), STOP_GRACE)
        why = self.presence.absent()
        for name, component in inputs.items():
            if name not in self.running and why is None and self._wanted(component):
                done &= await self._start(component)
        for name, running in self.running.items():
            await self._pause_or_resume(name, running)
        return done

    def _inputs(self) -> Mapping[str, AnyInput]:
        """The bindings that the app could read."""
        if self.presence.channel is None:
            return {}
        return {
            opened.name: cast("AnyInput", opened)
            for opened in self._components.visible(self.presence.ref)
            if isinstance(opened.component, InputBinding)
            and BindingCapability.INPUT_BINDING in opened.capabilities
            and has_direction(opened, INPUT, otherwise=True)
        }

    def _wanted(self, component: AnyInput) -> bool:
        return _is_explicit(component) or self._answers.get(component.name, False)

    async def _ask_app(self, inputs: Mapping[str, AnyInput]) -> bool:
        """Ask about what is to be asked; false where the app could not be asked."""
        channel = self.presence.channel
        if self._ask:
            to_ask = [component for component in inputs.values() if not _is_explicit(component)]
        else:
            to_ask = [c for c in inputs.values() if not _is_explicit(c) and c.name not in self._answers]
        self._answers = {name: answer for name, answer in self._answers.items() if name in inputs}
        if channel is None:
            return True
        try:
            answers = await self._answers_of(channel, to_ask) if to_ask else {}
        except ChannelError as error:
            self._events.bindings_unknown(self.presence.ref, str(error))
            return False
        for name, wanted in answers.items():
            if not wanted and self._answers.get(name) is not False:
                self._events.binding_unwanted(self.presence.ref, name)
        self._answers |= answers
        self._ask = False
        return True

    async def _answers_of(self, channel: AppChannel, to_ask: list[AnyInput]) -> dict[str, bool]:
        if isinstance(channel, GrpcAppChannel):
            listed = await list_bindings(channel, timeout=ASK_TIMEOUT)
            return {component.name: component.name in listed for component in to_ask}
        return {
            component.name: await wants_binding(channel, route_of(component), timeout=ASK_TIMEOUT)
            for component in to_ask
        }

    async def _start(self, component: AnyInput) -> bool:
        ref, channel = self.presence.ref, self.presence.channel
        limit = channel.properties.max_concurrency if channel is not None else 0
        request = ReadRequest(ref.app_id, limit or DEFAULT_IN_FLIGHT)
        try:
            reading = await component.component.read(request, self._deliveries.handler(self.presence, component))
        except BackendError as error:
            self._events.binding_failed(ref, component.name, str(error))
            return False
        self.running[component.name] = Running(component, reading)
        self._events.binding_started(ref, component.name)
        return True

    async def _pause_or_resume(self, name: str, running: Running) -> None:
        why = self.presence.absent()
        if why is not None and not running.paused:
            running.paused = True
            await running.reading.pause()
            self._events.binding_paused(self.presence.ref, name, why)
        elif why is None and running.paused:
            running.paused = False
            await running.reading.resume()
            self._events.binding_resumed(self.presence.ref, name)

    async def _stop(self, name: str, running: Running, grace: float) -> None:
        await running.reading.stop(grace)
        self._events.binding_stopped(self.presence.ref, name)


def _is_explicit(component: AnyInput) -> bool:
    """Whether `direction` says that it is an input: then the app is not asked, as in Dapr."""
    return has_direction(component, INPUT, otherwise=False)
