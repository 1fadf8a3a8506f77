"""Streaming subscriptions: the order of their messages, replies, and clients that leave."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dapr_shared._proto import runtime_pb
from dapr_shared.api.grpc.topic_stream import TopicStreamRpc
from dapr_shared.blocks.pubsub.streaming import StreamingBlock
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.pubsub import PublishRequest
from dapr_shared.core.errors import DaprError
from tests.support.pubsub_fakes import ORDERS, event, message, until

RETRY = 1
"""Of TopicEventResponseStatus."""


def initial(topic: str = "t", pubsub: str = "ps", dead: str | None = None, **metadata: str) -> bytes:
    """The first message of a stream."""
    request = runtime_pb.SubscribeTopicEventsRequestAlpha1()
    request.initial_request.pubsub_name, request.initial_request.topic = pubsub, topic
    request.initial_request.metadata.update(metadata)
    if dead is not None:
        request.initial_request.dead_letter_topic = dead
    return request.SerializeToString()


def processed(name: str, status: int = 0) -> bytes:
    """The reply to an event."""
    request = runtime_pb.SubscribeTopicEventsRequestAlpha1()
    request.event_processed.id = name
    request.event_processed.status.status = status
    return request.SerializeToString()


class Client:
    """One end of the call: what it sends, and what it has received."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.received: list[runtime_pb.SubscribeTopicEventsResponseAlpha1] = []
        self.task: asyncio.Task | None = None

    @property
    def ids(self) -> list[str]:
        """The events that came."""
        return [found.event_message.id for found in self.received if found.HasField("event_message")]

    async def messages(self):
        while (data := await self.sent.get()) is not None:
            yield data

    def send(self, data: bytes) -> None:
        self.sent.put_nowait(data)

    async def leave(self) -> None:
        """Cancel the call."""
        assert self.task is not None
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


@pytest.fixture
def block(components, deliveries, broker) -> StreamingBlock:
    return StreamingBlock(components, deliveries)


@pytest.fixture
def stream(block, caller):
    """Opens a stream with this first message."""

    @asynccontextmanager
    async def opened(first: bytes | None = None, who=caller):
        client = Client()
        client.send(initial() if first is None else first)
        answers = TopicStreamRpc(block).subscribe(SimpleNamespace(caller=who), client.messages())

        async def run() -> None:
            try:
                async for data in answers:
                    client.received.append(runtime_pb.SubscribeTopicEventsResponseAlpha1.FromString(data))
            finally:
                await answers.aclose()

        client.task = asyncio.create_task(run())
        try:
            yield client
        finally:
            with suppress(Exception):
                await client.leave()

    return opened


async def started(client) -> None:
    await until(lambda: client.received)
    assert client.received[0].HasField("initial_response")


async def test_messages_come_in_order(stream, publish):
    """First the initial response, then the events in the order of their publication, on the route of streams."""
    async with stream() as client:
        await started(client)
        await publish(*(str(n) for n in range(50)))
        await until(lambda: len(client.ids) == 50)
        assert client.ids == [str(n) for n in range(50)]
        found = client.received[1].event_message
        assert (found.topic, found.pubsub_name, found.path, found.data) == ("t", "ps", "/", b"x")


@pytest.mark.parametrize(("status", "again", "dead_lettered"), [(0, 0, 0), (1, 1, 1), (2, 0, 1), (7, 1, 1)])
@pytest.mark.parametrize("dead", [None, "dead"])
async def test_replies(stream, publish, read, status, again, dead_lettered, dead):
    """SUCCESS, RETRY, DROP and an unknown status, with and without a dead-letter topic; replies to nothing do nothing."""
    letters = await read("dead")
    async with stream(initial(dead=dead)) as client:
        await started(client)
        await publish("a")
        await until(lambda: client.ids)
        client.send(processed("unknown", 1))
        client.send(processed("a", status))
        if dead:
            await until(lambda: len(letters) == dead_lettered)
        else:
            await until(lambda: len(client.ids) == 1 + again)
        client.send(processed("a"))
        assert len(letters) == (dead_lettered if dead else 0)


async def test_two_events_of_one_id(stream, broker):
    """Two events that have one id are told apart: the second comes when the first is answered, and each reply is its own's."""
    async with stream() as client:
        await started(client)
        for source in ("a", "b"):
            sent = message(event(source, id="same", source=source))
            await broker.publish(PublishRequest("t", sent.data, sent.content_type))
        await until(lambda: len(client.ids) == 1)
        client.send(processed("same"))
        await until(lambda: len(client.ids) == 2)
        client.send(processed("same", RETRY))
        await until(lambda: len(client.ids) == 3)
        assert [found.event_message.source for found in client.received[1:]] == ["a", "b", "b"]
        client.send(processed("same"))


async def test_a_client_that_does_not_reply(stream, deliveries, publish, read):
    """An event without a reply in time has failed; a reply that comes too late is nobody's."""
    deliveries._timeout = 0.05
    letters = await read("dead")
    async with stream(initial(dead="dead")) as client:
        await started(client)
        await publish("a")
        await until(lambda: letters)
        client.send(processed("a", RETRY))
        await publish("b")
        await until(lambda: client.ids == ["a", "b"])
        client.send(processed("b"))
        await until(lambda: len(letters) == 1)


@pytest.mark.parametrize("what", ["replaced", "gone", "other group", "app removed", "shut down"])
async def test_the_instance_ends_a_stream(stream, block, components, new_broker, publish, what):
    """A stream ends with UNAVAILABLE, which SDKs take for a reason to open it anew, when its ground is gone."""
    from dapr_shared.core import errors

    async with stream() as client:
        await started(client)
        assert block.count() == {ORDERS: 1}
        block.components_changed()
        await publish("still")
        await until(lambda: client.ids)
        client.send(processed("still"))
        if what == "replaced":
            await new_broker()
        elif what == "gone":
            del components.opened["ps"]
        elif what == "other group":
            components.opened["ps"] = replace(components.opened["ps"], runtime_metadata={"consumerid": "g"})
        if what == "app removed":
            block.keep(())
        elif what == "shut down":
            block.end_app(ORDERS, "shut down")
        else:
            block.components_changed()
        with pytest.raises(DaprError) as ended:
            await asyncio.wait_for(client.task, 5)
        assert ended.value.row is errors.PUBSUB_STREAM_ENDED
        assert block.count() == {}


async def test_replies_are_waited_for_at_the_end(stream, block, publish, read):
    """While the instance stops, events with the client may still be answered; then the stream ends, and none opens."""
    async with stream() as client:
        await started(client)
        await publish("a", "b")
        await until(lambda: client.ids == ["a", "b"])
        closing = asyncio.ensure_future(block.close(3))
        await until(lambda: not block.count())
        client.send(processed("b"))
        client.send(processed("a"))
        await asyncio.wait_for(closing, 5)
        await publish("c")
        with pytest.raises(DaprError, match="the instance stops"):
            await asyncio.wait_for(client.task, 5)
        assert client.ids == ["a", "b"]
    async with stream() as late:
        with pytest.raises(DaprError, match="has ended"):
            await asyncio.wait_for(late.task, 5)


async def test_streams_are_in_the_status(stream, block, publish):
    """Each open stream of an app is one row, with the messages that wait for its group."""
    async with stream() as client, stream():
        await started(client)
        await publish("a")
        await until(lambda: len(client.ids) == 1)
        rows = await block.status(ORDERS)
        assert [(row.kind, row.pubsub, row.topic, row.state, row.pending) for row in rows] == [
            ("STREAMING", "ps", "t", "active", 1)
        ] * 2
    assert await block.status(ORDERS) == []


async def test_what_a_client_left_unanswered_goes_to_another(stream, publish):
    """The unanswered events of a client that leaves go to the other member of the app's group; answered ones do not."""
    async with stream() as first:
        await started(first)
        await publish("1", "2", "3")
        await until(lambda: first.ids == ["1", "2", "3"])
        first.send(processed("2"))
        async with stream() as second:
            await started(second)
            await until(first.sent.empty)
            await first.leave()
            await until(lambda: sorted(second.ids) == ["1", "3"])


async def test_two_streams_of_one_app_share(stream, publish):
    """Each message goes to one of them."""
    async with stream() as first, stream() as second:
        await started(first)
        await started(second)
        await publish(*(str(n) for n in range(20)))
        await until(lambda: len(first.ids) + len(second.ids) == 20)
        assert first.ids
        assert second.ids
        assert not set(first.ids) & set(second.ids)


async def test_a_client_that_ends_its_side(stream):
    """A client that sends no more has ended the call."""
    async with stream() as client:
        await started(client)
        client.sent.put_nowait(None)
        await asyncio.wait_for(client.task, 5)


@pytest.mark.parametrize("dead", [None, "dead"])
async def test_an_event_that_cannot_be_sent_does_not_end_the_stream(stream, publish, read, broker, dead):
    """An event that contradicts its content type fails by itself; the ones behind it come."""
    letters = await read("dead")
    async with stream(initial(dead=dead)) as client:
        await started(client)
        wrong = message(event({"n": 1}, id="wrong"))
        await broker.publish(PublishRequest("t", wrong.data, wrong.content_type))
        await publish("after")
        await until(lambda: client.ids == ["after"])
        if dead:
            await until(lambda: letters)


async def test_what_is_no_event_fails(stream, publish, read, broker):
    """A message that is no JSON goes to the stream's dead-letter topic."""
    letters = await read("dead")
    async with stream(initial(dead="dead")) as client:
        await started(client)
        await broker.publish(PublishRequest("t", b"no json"))
        await until(lambda: letters)


@pytest.mark.parametrize(
    ("first", "row"),
    [
        (processed("1"), "BAD_REQUEST"), (b"", "BAD_REQUEST"), (initial(topic=""), "BAD_REQUEST"),
        (initial(pubsub="absent"), "PUBSUB_NOT_FOUND"),
    ],
)  # fmt: skip
async def test_a_wrong_first_message(stream, first, row):
    """A stream begins with an initial request that names a pubsub and a topic that exist."""
    from dapr_shared.core import errors

    async with stream(first) as client:
        with pytest.raises(DaprError) as refused:
            await asyncio.wait_for(client.task, 5)
        assert refused.value.row is getattr(errors, row)


async def test_a_second_initial_request_ends_the_call(stream):
    """Only the first message may be an initial request."""
    async with stream() as client:
        await started(client)
        client.send(initial())
        with pytest.raises(DaprError, match="only the first"):
            await asyncio.wait_for(client.task, 5)


async def test_scopes_hold_for_streams(stream, new_broker):
    """A topic that the scopes refuse is forbidden."""
    from dapr_shared.core import errors

    await new_broker("ps", {"subscriptionscopes": "orders=other"})
    async with stream() as client:
        with pytest.raises(DaprError) as refused:
            await asyncio.wait_for(client.task, 5)
        assert refused.value.row is errors.PUBSUB_FORBIDDEN


async def test_a_broker_that_refuses(stream, broker, monkeypatch):
    """A subscription that the broker does not take is an error of the call."""
    from dapr_shared.core import errors

    async def refuse(_request, _handler):
        raise BackendError("down")

    monkeypatch.setattr(broker, "subscribe", refuse)
    async with stream() as client:
        with pytest.raises(DaprError) as refused:
            await asyncio.wait_for(client.task, 5)
        assert refused.value.row is errors.PUBSUB_SUBSCRIBE
