"""Several messages in one call: when they are sent, and what each becomes."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from dapr_shared._proto import appcallback_pb
from dapr_shared.blocks.pubsub.subscriptions import Bulk
from dapr_shared.contracts.invocation import AppTimeoutError, AppUnreachableError, ChannelError
from dapr_shared.contracts.pubsub import Outcome
from dapr_shared.core.errors import GrpcCode
from dapr_shared.observability.spans import AppTracing
from dapr_shared.observability.tracing import Tracing
from dapr_shared.wire.grpc.interface import GrpcError
from tests.support.pubsub_fakes import ORDERS, FakeGrpcChannel, answer, event, message, until

ACCEPTED, RETRY, RELEASED = Outcome.ACCEPTED, Outcome.RETRY, Outcome.RELEASED
NEVER = 1000.0


def says(*statuses):
    """An app that gives the entries these statuses in their order; `None` leaves an entry out."""

    def reply(request):
        entries = json.loads(request.body)["entries"]
        given = [
            {"entryId": entry["entryId"], "status": status}
            for entry, status in zip(entries, statuses, strict=True)
            if status is not None
        ]
        return answer({"statuses": given})

    return reply


async def together(handler, *messages) -> list[Outcome]:
    """The outcomes of messages that are there at once."""
    return await asyncio.gather(*map(handler, messages))


async def test_enough_messages_go_at_once(deliver, channel):
    """The count fills a call, long before the time is up; the envelope has every event with an id of its own."""
    channel.reply = says("SUCCESS", "SUCCESS", "SUCCESS")
    handler = deliver.handler(bulk=Bulk(3, NEVER))
    sent = [message(event(id=name), k=name) for name in "abc"]
    assert await together(handler, *sent) == [ACCEPTED] * 3
    (request,) = channel.delivered
    envelope = json.loads(request.body)
    assert (envelope["type"], envelope["topic"], envelope["pubsubname"]) == ("com.dapr.event.sent.bulk", "t", "ps")
    assert [entry["event"]["id"] for entry in envelope["entries"]] == ["a", "b", "c"]
    assert [entry["metadata"] for entry in envelope["entries"]] == [{"k": name} for name in "abc"]
    assert {entry["contentType"] for entry in envelope["entries"]} == {"application/cloudevents+json"}
    assert len({entry["entryId"] for entry in envelope["entries"]}) == 3
    assert request.content_type == b"application/json"


@pytest.mark.parametrize("grpc", [False, True], ids=["http", "grpc"])
async def test_a_call_has_a_time_limit(deliver, deliveries, channel, grpc):
    """A call with several messages has the limit of one; what is not answered in time has failed."""
    deliveries._timeout = 7.0
    if grpc:
        late = GrpcError(GrpcCode.DEADLINE_EXCEEDED, "too late")
        deliver.state.channel = FakeGrpcChannel(OnBulkTopicEvent=late)
    else:
        channel.reply = lambda _: AppTimeoutError("too late")
    assert await together(deliver.handler(bulk=Bulk(2, NEVER)), message(), message()) == [RETRY] * 2
    assert (deliver.state.channel.fake if grpc else channel).timeouts == [7.0]


async def test_what_waits_goes_when_the_time_is_up(deliver, channel):
    """A call that is not full goes when its oldest message has waited long enough."""
    channel.reply = says("SUCCESS", "SUCCESS")
    assert await together(deliver.handler(bulk=Bulk(100, 0.02)), message(), message()) == [ACCEPTED] * 2
    assert len(channel.delivered) == 1


async def test_each_path_has_a_call_of_its_own(deliver, channel):
    """Messages that the rules part are sent apart; what no rule matches and what is no event never waits."""
    channel.reply = lambda request: says(*["SUCCESS"] * len(json.loads(request.body)["entries"]))(request)
    routes = (('event.type == "a"', "/a"), ('event.type == "b"', "/b"))
    sent = [message(event(type=name)) for name in "abac"] + [message(b"no json")]
    outcomes = await together(deliver.handler(bulk=Bulk(100, 0.02), routes=routes), *sent)
    assert outcomes == [ACCEPTED] * 4 + [RETRY]
    assert sorted(channel.paths) == ["a", "b"]


@pytest.mark.parametrize("letter", ["", "dead"])
async def test_each_entry_has_its_status(deliver, channel, read, letter):
    """SUCCESS, DROP, RETRY, an unknown one, an empty one and one that is left out, each as by itself."""
    dead = await read("dead")
    channel.reply = says("SUCCESS", "DROP", "RETRY", "LATER", "", None)
    handler = deliver.handler(bulk=Bulk(6, NEVER), dead_letter_topic=letter)
    outcomes = await together(handler, *(message(event(id=str(n))) for n in range(6)))
    assert outcomes == [ACCEPTED, ACCEPTED, *([ACCEPTED] * 4 if letter else [RETRY] * 4)]
    if letter:
        await until(lambda: len(dead) == 5)
    assert len(dead) == (5 if letter else 0)


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (answer(status=404), ACCEPTED), (answer(status=500), RETRY), (answer(b""), RETRY), (answer(b"garbage"), RETRY),
        (answer([]), RETRY), (answer({"statuses": None}), RETRY), (answer({"statuses": 7}), RETRY),
        (answer({"statuses": [1, None]}), RETRY), (answer({"statuses": [{"entryId": 1, "status": {}}]}), RETRY),
        (answer({}), RETRY), (ChannelError("broke off"), RETRY), (AppUnreachableError("refused"), RELEASED),
        (ZeroDivisionError("of ours"), RETRY),
    ],
    ids=lambda found: f"{found.status} {found.body}" if hasattr(found, "status") else str(found),
)  # fmt: skip
async def test_one_answer_for_all(deliver, channel, reply, outcome):
    """404 drops all; errors and garbage of any form fail all; an app that is not there releases all."""
    channel.reply = lambda _: reply
    assert await together(deliver.handler(bulk=Bulk(2, NEVER)), message(), message()) == [outcome] * 2


async def test_an_absent_app_is_not_called(deliver, channel):
    """Messages gathered when the app goes are released."""
    deliver.state.why = "gone"
    assert await together(deliver.handler(bulk=Bulk(2, NEVER)), message(), message()) == [RELEASED] * 2
    assert not channel.delivered


async def test_raw_payloads_go_as_base64(deliver, channel):
    """With rawPayload an entry's event is the payload in base64."""
    channel.reply = says("SUCCESS")
    handler = deliver.handler(bulk=Bulk(1, NEVER), metadata={"rawPayload": "true"})
    assert await handler(message(b"\xff")) is ACCEPTED
    (entry,) = json.loads(channel.delivered[0].body)["entries"]
    assert (base64.b64decode(entry["event"]), entry["contentType"]) == (b"\xff", "application/octet-stream")


async def test_a_message_taken_away_is_not_sent(deliver, channel):
    """A message whose handler was cancelled while it waited is not in the call."""
    channel.reply = says("SUCCESS")
    handler = deliver.handler(bulk=Bulk(2, NEVER))
    gone = asyncio.ensure_future(handler(message(event(id="gone"))))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert await handler(message(event(id="kept"))) is ACCEPTED
    assert [entry["event"]["id"] for entry in json.loads(channel.delivered[0].body)["entries"]] == ["kept"]


def grpc_says(*statuses):
    """The same for a gRPC app."""

    def reply(data):
        made = appcallback_pb.TopicEventBulkResponse()
        for entry, status in zip(appcallback_pb.TopicEventBulkRequest.FromString(data).entries, statuses, strict=True):
            made.statuses.add(entry_id=entry.entry_id, status=status)
        return made.SerializeToString()

    return reply


@pytest.mark.parametrize("method", ["OnBulkTopicEvent", "OnBulkTopicEventAlpha1"])
async def test_a_grpc_app_takes_bulk(deliver, method):
    """The stable method, or the alpha one of an app that has only that; events and statuses in their fields."""
    channel = deliver.state.channel = FakeGrpcChannel(**{method: grpc_says(0, 1, 2)})
    handler = deliver.handler(bulk=Bulk(3, NEVER))
    found = await together(handler, *(message(event(id=name, subject=name)) for name in "abc"))
    assert found == [ACCEPTED, RETRY, ACCEPTED]
    request = appcallback_pb.TopicEventBulkRequest.FromString(channel.fake.called[-1][1])
    assert [entry.cloud_event.id for entry in request.entries] == ["a", "b", "c"]
    assert request.entries[0].cloud_event.data == b"hello"
    assert dict(request.entries[1].cloud_event.extensions.items())["subject"] == "b"


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"\xff\xff", RETRY), (b"", RETRY), (GrpcError(GrpcCode.INTERNAL, ""), RETRY),
        (GrpcError(GrpcCode.UNIMPLEMENTED, ""), ACCEPTED), (AppUnreachableError("refused"), RELEASED),
    ],
)  # fmt: skip
async def test_one_answer_of_a_grpc_app_for_all(deliver, lines, reply, outcome):
    """Garbage and errors fail all; an app without either method drops all."""
    deliver.state.channel = FakeGrpcChannel(OnBulkTopicEvent=reply)
    assert await together(deliver.handler(bulk=Bulk(2, NEVER)), message(), message()) == [outcome] * 2
    assert not lines.of("defect")


async def test_what_a_grpc_app_cannot_be_sent_as_event_goes_as_bytes(deliver):
    """In bulk, an event that contradicts its content type, and a raw payload, go as they came."""
    channel = deliver.state.channel = FakeGrpcChannel(OnBulkTopicEvent=grpc_says(0))
    wrong = message(event({"n": 1}))
    assert await deliver.handler(bulk=Bulk(1, NEVER))(wrong) is ACCEPTED
    assert await deliver.handler(bulk=Bulk(1, NEVER), metadata={"rawPayload": "true"})(message(b"\xff")) is ACCEPTED
    entries = [appcallback_pb.TopicEventBulkRequest.FromString(data).entries[0] for _, data, _ in channel.fake.called]
    assert [entry.bytes for entry in entries] == [wrong.data, b"\xff"]
    assert entries[1].content_type == "application/octet-stream"


async def test_each_sampled_event_of_a_call_has_a_span(deliver, deliveries, channel):
    """One span an event whose trace is sampled, in that trace, with what became of it; none for the others."""

    class Sink:
        def __init__(self):
            self.got = []

        def put(self, span):
            self.got.append(span)

    sink, tracing = Sink(), Tracing(1)
    deliveries.spans.replace({ORDERS: AppTracing("orders", tracing, [sink])}, tracing)
    channel.reply = says("SUCCESS", "DROP", "SUCCESS")
    handler = deliver.handler(bulk=Bulk(3, NEVER))
    traces = ["1" * 32, "2" * 32, "3" * 32]
    parents = [f"00-{trace}-{'4' * 16}-{flags}" for trace, flags in zip(traces, ("01", "01", "00"), strict=True)]
    await together(handler, *(message(event(id=parent, traceparent=parent)) for parent in parents))
    assert [(span.name, span.trace_id, span.parent_id, span.error) for span in sink.got] == [
        ("pubsub/t", traces[0], "4" * 16, None),
        ("pubsub/t", traces[1], "4" * 16, "DROP"),
    ]
