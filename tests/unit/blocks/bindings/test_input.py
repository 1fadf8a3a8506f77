"""Input bindings: who reads, when a reading pauses, and when an event counts as taken."""

from __future__ import annotations

import pytest

from dapr_shared._proto import appcallback_pb, common_pb
from dapr_shared.blocks.bindings.delivery import BindingDeliveries, route_of
from dapr_shared.blocks.bindings.manager import InputBindings
from dapr_shared.blocks.presence import Presences
from dapr_shared.contracts.bindings import BindingCapability, BindingEvent, InputBinding, Outcome
from dapr_shared.contracts.component import BackendError, ComponentContext
from dapr_shared.contracts.invocation import AppTimeoutError, AppUnreachableError, ChannelError
from dapr_shared.contracts.settings import Settings
from dapr_shared.core import errors
from dapr_shared.observability.events import Events
from tests.support.pubsub_fakes import ORDERS, FakeGrpcChannel, FakeHttpChannel, Lines, answer, until


class FakeReading:
    """Notes what is done with it."""

    def __init__(self, done: list[str]) -> None:
        self.done = done

    async def pause(self) -> None:
        self.done.append("pause")

    async def resume(self) -> None:
        self.done.append("resume")

    async def stop(self, _grace: float) -> None:
        self.done.append("stop")


class FakeInput(InputBinding[Settings]):
    """Gives its handler away."""

    settings_type = Settings
    capabilities = frozenset({BindingCapability.INPUT_BINDING})

    def __init__(self) -> None:
        super().__init__(Settings(), ComponentContext("in", "fake"))
        self.done: list[str] = []
        self.handler = None

    async def start(self, stack) -> None:
        """Nothing to open."""

    def data_location(self) -> str | None:
        return None

    async def read(self, request, handler):
        self.done.append(f"read {request.reader} {request.max_in_flight}")
        self.handler = handler
        return FakeReading(self.done)


class FakeOutputs:
    """The output bindings and the state of the app, as far as answers use them."""

    def __init__(self) -> None:
        self.called: list = []
        self.error: Exception | None = None

    async def invoke(self, caller, name, operation, data, metadata):
        await self._note((caller.app_id, name, operation, data))

    async def save(self, caller, store, items):
        await self._note((caller.app_id, store, [(item.key, item.value) for item in items]))

    async def _note(self, what) -> None:
        self.called.append(what)
        if self.error:
            raise self.error


class World:
    """The app `orders` and one input binding."""

    def __init__(self, components, metrics, caller, channel) -> None:
        self.channel = channel
        self.outputs = FakeOutputs()
        self.caller = caller
        self.presences = Presences()
        self.components = components
        events = Events(metrics, Lines().logger)
        deliveries = BindingDeliveries(self.outputs, self.outputs, lambda _ref: self.caller, metrics, events)
        self.inputs = InputBindings(components, self.presences, deliveries, events)

    async def start(self, *, present: bool = True, **metadata: str) -> FakeInput:
        binding = self.components.add(FakeInput(), "in", metadata=metadata)
        await self.presences.set_apps({ORDERS: self.channel}, frozenset())
        self.presences.reachable_changed(ORDERS, reachable=present)
        return binding


@pytest.fixture
async def world_of(components, metrics, caller):
    made: list[World] = []

    def make(channel=None) -> World:
        made.append(World(components, metrics, caller, channel or FakeHttpChannel()))
        return made[-1]

    yield make
    for world in made:
        await world.inputs.close(0)
        await world.presences.close()


async def test_an_app_that_wants_it_reads(world_of):
    """It is asked by OPTIONS of the route; the reader is the app, its limit that of the app."""
    world = world_of(FakeHttpChannel(max_concurrency=7))
    binding = await world.start(route="/events")
    await until(lambda: binding.done)
    assert [(r.verb, r.method) for r in world.channel.delivered] == [("OPTIONS", "events")]
    assert binding.done == ["read orders 7"]
    assert world.inputs.reads(ORDERS) == ["in"]


@pytest.mark.parametrize(("status", "reads"), [(404, False), (500, False), (405, True), (204, True)])
async def test_what_the_app_says_to_options(world_of, status, reads):
    """2xx and 405 are wishes; anything else is none."""
    world = world_of()
    world.channel.reply = lambda _: answer(status=status)
    binding = await world.start()
    await until(lambda: world.channel.delivered)
    await until(lambda: world.inputs._apps[ORDERS]._upkeep.settled)
    assert bool(binding.done) is reads


@pytest.mark.parametrize(("direction", "done"), [("input", ["read orders 100"]), ("output", [])])
async def test_a_direction_is_not_asked_about(world_of, direction, done):
    """One that is declared as an input is read without asking, one for output alone never."""
    world = world_of()
    binding = await world.start(direction=direction)
    await until(lambda: world.inputs._apps[ORDERS]._upkeep.settled)
    assert (binding.done, world.channel.delivered) == (done, [])


async def test_a_reading_pauses_while_the_app_is_away(world_of):
    """Paused when the app goes, asked again and resumed when it is back; stopped when it wants it no more."""
    world = world_of()
    binding = await world.start()
    await until(lambda: binding.done)
    world.presences.reachable_changed(ORDERS, reachable=False)
    await until(lambda: binding.done[1:] == ["pause"])
    world.presences.reachable_changed(ORDERS, reachable=True)
    await until(lambda: binding.done[2:] == ["resume"])
    assert len(world.channel.delivered) == 2
    world.channel.reply = lambda _: answer(status=404)
    world.presences.refresh(ORDERS)
    await until(lambda: binding.done[3:] == ["stop"])


async def test_an_absent_app_is_not_asked(world_of):
    """Neither asked nor read for until it is there."""
    world = world_of()
    binding = await world.start(present=False)
    await until(lambda: world.inputs._apps[ORDERS]._upkeep.settled)
    assert (binding.done, world.channel.delivered) == ([], [])


async def test_a_removed_app_reads_no_more(world_of):
    """Its reading ends."""
    world = world_of()
    binding = await world.start()
    await until(lambda: binding.done)
    await world.presences.set_apps({}, frozenset())
    await until(lambda: binding.done[1:] == ["stop"])


@pytest.mark.parametrize(
    ("reply", "present", "outcome"),
    [
        (answer(status=200), True, Outcome.ACCEPTED),
        (answer(status=204), True, Outcome.ACCEPTED),
        (answer(status=500), True, Outcome.RETRY),
        (answer(status=404), True, Outcome.RETRY),
        (AppUnreachableError("refused"), True, Outcome.RELEASED),
        (AppTimeoutError("late"), True, Outcome.RETRY),
        (ChannelError("garbage"), True, Outcome.RETRY),
        (ChannelError("broke off"), False, Outcome.RELEASED),
        (ValueError("a defect"), True, Outcome.RETRY),
    ],
)
async def test_what_becomes_of_an_event(world_of, reply, present, outcome):
    """Taken when the app has answered so; again when it answered otherwise or not in time; back, uncounted, when it is away."""
    world = world_of()
    binding = await world.start(direction="input")
    await until(lambda: binding.handler)

    def replied(_request):
        world.channel.present = present
        return reply

    world.channel.reply = replied
    assert await binding.handler(BindingEvent(b"x", {"a": "b", "dapr-api-token": "no"})) is outcome
    (request,) = world.channel.delivered
    assert (request.verb, request.method, request.body, request.headers) == ("POST", "in", b"x", [(b"a", b"b")])


async def test_nothing_is_brought_to_an_app_that_is_away(world_of):
    """An event that comes after the app went is given back without a call."""
    world = world_of()
    binding = await world.start(direction="input")
    await until(lambda: binding.handler)
    world.presences.reachable_changed(ORDERS, reachable=False)
    assert await binding.handler(BindingEvent(b"x")) is Outcome.RELEASED
    assert world.channel.delivered == []


def failure(cause: Exception | None):
    """The error of an output binding, for this cause."""
    error = errors.BINDING_INVOKE(name="out", detail="wrong")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.ACCEPTED),
        (failure(BackendError("down")), Outcome.RETRY),
        (failure(None), Outcome.ACCEPTED),
    ],
)
@pytest.mark.parametrize("parallel", [False, True])
async def test_what_an_answer_asks_for(world_of, error, outcome, parallel):
    """States are saved and bindings called in the app's name before the event is taken; a backend that fails brings it again."""
    reply = appcallback_pb.BindingEventResponse(
        store_name="store", states=[common_pb.StateItem(key="k", value=b"v")], to=["one", "two"], data=b"d",
        concurrency=int(parallel),
    )  # fmt: skip
    world = world_of(FakeGrpcChannel(OnBindingEvent=reply.SerializeToString()))
    binding = await world.start(direction="input")
    await until(lambda: binding.handler)
    world.outputs.error = error
    assert await binding.handler(BindingEvent(b"x")) is outcome
    every = [
        ("orders", "store", [("k", b"v")]),
        ("orders", "one", "create", b"d"),
        ("orders", "two", "create", b"d"),
    ]
    assert world.outputs.called == (every if outcome is Outcome.ACCEPTED else every[:1])


async def test_an_answer_of_an_app_that_is_no_more(world_of):
    """Nothing is done in nobody's name: the event comes again."""
    reply = appcallback_pb.BindingEventResponse(to=["one"])
    world = world_of(FakeGrpcChannel(OnBindingEvent=reply.SerializeToString()))
    binding = await world.start(direction="input")
    await until(lambda: binding.handler)
    world.caller = None
    assert await binding.handler(BindingEvent(b"x")) is Outcome.RETRY
    assert world.outputs.called == []


def test_routes(components):
    """The component's `route`, else its name."""
    for metadata, route in (({}, "in"), ({"route": ""}, "in"), ({"route": " /a/b "}, "a/b")):
        components.add(FakeInput(), "in", metadata=metadata)
        assert route_of(components.opened["in"]) == route
