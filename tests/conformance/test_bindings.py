"""What every binding promises, in the directions that its class claims."""

from __future__ import annotations

import asyncio

import pytest

from dapr_shared.contracts.bindings import (
    BindingCapability,
    BindingEvent,
    BindingRequest,
    InputBinding,
    Outcome,
    OutputBinding,
    ReadRequest,
)
from dapr_shared.contracts.component import BackendError
from tests.support.component_setups import until


class Events:
    """A handler that keeps events and answers what it is told to."""

    def __init__(self, *answers: Outcome) -> None:
        self.seen: list[BindingEvent] = []
        self.answers = list(answers)

    async def __call__(self, event: BindingEvent) -> Outcome:
        self.seen.append(event)
        return self.answers.pop(0) if self.answers else Outcome.ACCEPTED

    async def count(self, number: int) -> None:
        """Wait until so many events came."""

        async def there() -> bool:
            return len(self.seen) >= number

        await until(there, seconds=10)


@pytest.fixture
def emit(binding_harness, binding):
    """Makes one event, where they do not come by themselves."""

    async def one() -> None:
        if binding_harness.setup.emit is not None:
            await binding_harness.setup.emit(binding)

    return one


@pytest.fixture
def source(binding):
    """The binding as an input."""
    if not isinstance(binding, InputBinding):
        pytest.skip("output only")
    return binding


@pytest.fixture
def target(binding):
    """The binding as an output."""
    if not isinstance(binding, OutputBinding):
        pytest.skip("input only")
    return binding


async def test_directions_are_claimed(binding):
    """The class claims exactly the directions that it implements, and an output has operations."""
    claimed = binding.effective_capabilities()
    assert (BindingCapability.INPUT_BINDING in claimed) is isinstance(binding, InputBinding)
    assert (BindingCapability.OUTPUT_BINDING in claimed) is isinstance(binding, OutputBinding)
    assert claimed
    if isinstance(binding, OutputBinding):
        assert binding.operations
        assert len(set(binding.operations)) == len(binding.operations)


async def test_an_event_comes(source, emit):
    """An event reaches the handler."""
    events = Events()
    reading = await source.read(ReadRequest("orders"), events)
    await emit()
    await events.count(1)
    await reading.stop(1)


async def test_two_apps_read(source, emit):
    """Two readings run side by side; ending one does not end the other."""
    one, two = Events(), Events()
    first = await source.read(ReadRequest("orders"), one)
    second = await source.read(ReadRequest("stock"), two)
    await first.stop(1)
    before, more = len(one.seen), len(two.seen) + 1
    await emit()
    await two.count(more)
    assert len(one.seen) == before
    await second.stop(1)


async def test_a_paused_reading_takes_nothing(binding_harness, source, emit):
    """Paused, nothing comes; resumed, it goes on: with what waited, where the system keeps events."""
    events = Events()
    reading = await source.read(ReadRequest("orders"), events)
    await reading.pause()
    await reading.pause()
    await asyncio.sleep(0.05)  # what was on its way has arrived
    before = len(events.seen)
    await emit()
    await asyncio.sleep(0.2)  # nothing announces that nothing comes
    assert len(events.seen) == before
    await reading.resume()
    if not binding_harness.setup.keeps_events:
        await emit()
    await events.count(before + 1)
    await reading.stop(1)


@pytest.mark.parametrize("outcome", [Outcome.RETRY, Outcome.RELEASED])
async def test_what_was_not_accepted_comes_again(binding_harness, source, emit, outcome):
    """Where the system keeps events, one that was not accepted comes again."""
    if not binding_harness.setup.keeps_events:
        pytest.skip("the system keeps nothing")
    events = Events(outcome)
    reading = await source.read(ReadRequest("orders"), events)
    await emit()
    await events.count(1)
    await reading.pause()
    await reading.resume()
    await events.count(2)
    assert events.seen[1].data == events.seen[0].data
    await reading.stop(1)


async def test_stop_waits_for_the_handler_and_then_cancels_it(source, emit):
    """`stop` gives the handler its grace; what it has not finished is cancelled; twice does no harm."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(event: BindingEvent) -> Outcome:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Outcome.ACCEPTED

    reading = await source.read(ReadRequest("orders", max_in_flight=1), hang)
    await emit()
    async with asyncio.timeout(10):
        await begun.wait()
    await reading.stop(0.05)
    assert cancelled.is_set()
    await reading.stop(0)


async def test_no_more_events_at_a_time_than_asked(source, emit):
    """`max_in_flight` bounds the handlers that run."""
    running, most, done = 0, 0, asyncio.Event()

    async def work(event: BindingEvent) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        done.set()
        return Outcome.ACCEPTED

    reading = await source.read(ReadRequest("orders", max_in_flight=1), work)
    for _ in range(3):
        await emit()
    async with asyncio.timeout(10):
        await done.wait()
    await reading.stop(1)
    assert most == 1


async def test_reading_after_the_end(binding_harness):
    """A closed binding refuses to read."""
    async with binding_harness.opened() as closed:
        if not isinstance(closed, InputBinding):
            pytest.skip("output only")
    with pytest.raises(BackendError):
        await closed.read(ReadRequest("orders"), Events())


async def test_readings_end_with_the_component(binding_harness):
    """Closing the component ends its readings."""
    events = Events()
    async with binding_harness.opened() as opened:
        if not isinstance(opened, InputBinding):
            pytest.skip("output only")
        reading = await opened.read(ReadRequest("orders"), events)
    before = len(events.seen)
    await asyncio.sleep(0.1)  # nothing announces that nothing comes
    assert len(events.seen) == before
    await reading.stop(0)


async def test_an_operation(binding_harness, target):
    """The example succeeds."""
    if binding_harness.setup.example is None:
        pytest.skip("needs another program: see the unit tests")
    operation, data, metadata = binding_harness.setup.example
    assert operation in target.operations
    await target.invoke(BindingRequest(operation, data, metadata))


async def test_calling_after_the_end(binding_harness):
    """A closed binding refuses to be called."""
    async with binding_harness.opened() as closed:
        if not isinstance(closed, OutputBinding):
            pytest.skip("input only")
    operation, data, metadata = binding_harness.setup.example or (closed.operations[0], b"null", {})
    with pytest.raises(BackendError):
        await closed.invoke(BindingRequest(operation, data, metadata))
