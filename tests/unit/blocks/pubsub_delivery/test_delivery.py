"""One message on its way to one app: what the app's answer makes of it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from dapr_shared._proto import appcallback_pb
from dapr_shared.contracts.component import BackendError
from dapr_shared.contracts.invocation import (
    AppNotHealthyError,
    AppTimeoutError,
    AppUnreachableError,
    ChannelBusyError,
    ChannelError,
    InvokeResponse,
    NoSlotError,
)
from dapr_shared.contracts.pubsub import Outcome
from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError
from tests.support.pubsub_fakes import FakeGrpcChannel, HangingBody, answer, event, message, until

ACCEPTED, RETRY, RELEASED = Outcome.ACCEPTED, Outcome.RETRY, Outcome.RELEASED
LETTER = pytest.mark.parametrize("letter", ["", "dead"])
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

SUCCESSES = [
    b"", b"  ", b"ok", b"<html>", b"\xff\xfe", b"[]", b"null", b"3", b'"DROP"', {}, {"status": ""}, {"status": None},
    {"status": "SUCCESS"}, {"other": 1},
]  # fmt: skip


@LETTER
@pytest.mark.parametrize("body", SUCCESSES, ids=str)
@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_a_success_is_accepted(deliver, channel, read, letter, body, status):
    """Any 2xx whose body is empty, no JSON object, or says SUCCESS is accepted, and nothing is dead-lettered."""
    dead = await read("dead")
    channel.reply = lambda _: answer(body, status)
    assert await deliver(message(), dead_letter_topic=letter) is ACCEPTED
    assert not dead


@LETTER
@pytest.mark.parametrize(
    "reply",
    [
        answer({"status": "RETRY"}), answer({"status": "retry"}), answer({"status": "LATER"}), answer({"status": 7}),
        answer({"status": ["SUCCESS"]}), answer(status=500), answer(status=503), answer(status=400),
        answer({"status": "SUCCESS"}, 429), answer(status=302), AppTimeoutError("too late"),
        ChannelError("broke off"),
    ],
    ids=lambda reply: str(reply) if isinstance(reply, Exception) else f"{reply.status} {reply.body}",
)  # fmt: skip
async def test_a_failure_is_retried_or_dead_lettered(deliver, channel, read, letter, reply):
    """RETRY, an unknown status, 4xx, 5xx, a time-out, and breaking off while still there: again, or the dead letter."""
    dead = await read("dead")
    channel.reply = lambda _: reply
    sent = message(k="v")
    assert await deliver(sent, dead_letter_topic=letter) is (ACCEPTED if letter else RETRY)
    if letter:
        await until(lambda: dead)
        assert (dead[0].data, dead[0].content_type, dead[0].metadata) == (sent.data, sent.content_type, {"k": "v"})
    assert deliver.state.doubts == 0


@LETTER
@pytest.mark.parametrize("reply", [answer({"status": "DROP"}), answer(status=404)], ids=["DROP", "404"])
async def test_a_drop_is_done_with(deliver, channel, read, lines, letter, reply):
    """DROP and 404 end the message: in the dead-letter topic if there is one, else with a line in the log."""
    dead = await read("dead")
    channel.reply = lambda _: reply
    assert await deliver(message(), dead_letter_topic=letter) is ACCEPTED
    if letter:
        await until(lambda: dead)
    assert len(lines.of("message dropped")) == (0 if letter else 1)


@LETTER
@pytest.mark.parametrize(
    "error", [AppUnreachableError("refused"), AppNotHealthyError("sick"), ChannelBusyError("busy"), ChannelError("cut")]
)
async def test_who_is_not_there_answers_nothing(deliver, channel, read, count, letter, error):
    """Unreachable, unhealthy, busy, or broke off and gone: released uncounted, never dead-lettered, and doubted."""
    dead = await read("dead")

    def cut(_request):
        channel.present = False
        return error

    channel.reply = cut
    assert await deliver(message(), dead_letter_topic=letter) is RELEASED
    assert deliver.state.doubts == 1
    assert not dead
    assert count("dapr_component_pubsub_ingress_count") == 0


@LETTER
@pytest.mark.parametrize("why", ["the app does not accept connections", None])
async def test_nobody_is_called_while_the_app_is_absent(deliver, channel, letter, why):
    """With the app known to be absent, or without a channel, a message goes back without a call."""
    deliver.state.why = why
    if why is None:
        deliver.state.channel = None
    assert await deliver(message(), dead_letter_topic=letter) is RELEASED
    assert not channel.delivered


RULES = (('event.type == "made"', "/made"), ("event.data.n > 3", "/many"))


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (event(), "made"),
        (event({"n": 4}, type="other", datacontenttype="application/json"), "many"),
        (event({"n": 1}, type="other", datacontenttype="application/json"), "rest"),
    ],
)
async def test_rules_choose_the_path(deliver, channel, body, path):
    """The first rule that matches takes the event; the default takes the rest."""
    assert await deliver(message(body), routes=(*RULES, ("", "/rest"))) is ACCEPTED
    assert channel.paths == [path]


@LETTER
async def test_what_no_rule_matches_is_dropped(deliver, channel, read, letter):
    """Without a match nothing is called: dead letter, or done."""
    dead = await read("dead")
    body = event({"n": 1}, type="other", datacontenttype="application/json")
    assert await deliver(message(body), routes=RULES, dead_letter_topic=letter) is ACCEPTED
    assert not channel.delivered
    if letter:
        await until(lambda: dead)


@LETTER
@pytest.mark.parametrize("body", [event(type="other"), b"no json", b"[1]", b'{"id":', b"\xff"])
async def test_what_cannot_be_routed_is_a_failure(deliver, channel, read, letter, body):
    """A rule that fails at run time and a message that is no JSON object: again, or the dead letter."""
    dead = await read("dead")
    found = await deliver(message(body), routes=RULES, dead_letter_topic=letter)
    assert found is (ACCEPTED if letter else RETRY)
    assert not channel.delivered
    if letter:
        await until(lambda: dead)


@LETTER
@pytest.mark.parametrize("how", ["silent", "half an answer"])
async def test_an_app_that_hangs(deliver, deliveries, channel, read, letter, how):
    """No answer within the time, or one that does not end, counts as a failed one: again, or to the dead letter."""
    dead = await read("dead")
    body = HangingBody()
    channel.reply = lambda _: AppTimeoutError("no answer") if how == "silent" else InvokeResponse(200, [], body)
    deliveries._timeout = 0.05
    outcome = await deliver(message(), dead_letter_topic=letter)
    assert outcome is (ACCEPTED if letter else RETRY)
    assert channel.timeouts == [0.05]
    assert body.closed is (how == "half an answer")
    if letter:
        await until(lambda: dead)


async def test_no_slot_is_no_failure(deliver, channel):
    """An app whose other calls took all of its concurrency for so long has not been asked: given back, uncounted."""
    channel.reply = lambda _: NoSlotError("no free slot")
    assert await deliver(message(), dead_letter_topic="dead") is RELEASED


@pytest.mark.parametrize(
    ("instance", "component", "found"), [(60.0, None, 60.0), (60.0, 5.0, 5.0), (60.0, 0.0, None), (0.0, None, None)]
)
async def test_whose_time_limit_holds(deliver, deliveries, broker, channel, monkeypatch, instance, component, found):
    """The component's processingTimeout goes before the instance's limit; 0 is no limit."""
    monkeypatch.setattr(type(broker), "processing_timeout", component)
    deliveries._timeout = instance
    await deliver(message())
    assert channel.timeouts == [found]


@LETTER
async def test_an_expired_event_is_dropped(deliver, channel, read, clock, letter):
    """An event whose expiration has passed reaches no app; one a second earlier does."""
    dead = await read("dead")
    soon = (clock.now() + timedelta(seconds=1)).isoformat()
    assert await deliver(message(event(expiration=soon)), dead_letter_topic=letter) is ACCEPTED
    assert len(channel.delivered) == 1
    clock.advance(2)
    assert await deliver(message(event(expiration=soon)), dead_letter_topic=letter) is ACCEPTED
    assert len(channel.delivered) == 1
    if letter:
        await until(lambda: dead)


async def test_a_raw_payload_is_wrapped(deliver, channel):
    """With rawPayload any bytes become an event with data_base64."""
    assert await deliver(message(b"\xff\x00", traceparent=PARENT), metadata={"rawPayload": "true"}) is ACCEPTED
    (made,) = channel.events
    assert (made["data_base64"], made["datacontenttype"]) == ("/wA=", "application/octet-stream")
    assert (made["topic"], made["pubsubname"], made["traceparent"]) == ("t", "ps", PARENT)


async def test_a_message_stays_when_the_dead_letter_fails(deliver, channel, broker, monkeypatch, lines):
    """A message that the dead-letter topic does not take comes again, and the log names the topic."""

    async def refuse(_request):
        raise BackendError("full")

    monkeypatch.setattr(broker, "publish", refuse)
    channel.reply = lambda _: answer({"status": "DROP"})
    assert await deliver(message(), dead_letter_topic="dead") is RETRY
    assert "dead" in lines.of("delivery failed")[0]["problem"]


async def test_a_dead_letter_is_prefixed_with_the_namespace(deliver, components, channel, read, broker):
    """Where the component is per namespace, so is its dead-letter topic."""
    import dataclasses

    components.opened["ps"] = dataclasses.replace(components.opened["ps"], namespace_scoped=True)
    dead = await read("defaultdead")
    channel.reply = lambda _: answer(status=404)
    assert await deliver(message(), dead_letter_topic="dead") is ACCEPTED
    await until(lambda: dead)


async def test_headers_beside_the_event(deliver, channel):
    """The broker's metadata goes as headers, what makes none or is ours does not; the trace comes from the event."""
    sent = message(
        event(traceparent=PARENT, tracestate="a=b"), **{"X-Key": "v", "host": "evil", "dapr-api-token": "t", "a b": "c",
        "line": "a\r\nb", "umlaut": "ü", "traceparent": "other", "Content-Length": "7"},
    )  # fmt: skip
    assert await deliver(sent) is ACCEPTED
    (request,) = channel.delivered
    assert request.content_type == b"application/cloudevents+json"
    assert request.headers == [
        (b"x-key", b"v"), (b"traceparent", PARENT.encode()), (b"tracestate", b"a=b"),
    ]  # fmt: skip
    assert request.body == sent.data


async def test_a_defect_loses_no_message(deliver, channel, lines):
    """An exception that nothing expected is told as a defect, and the message comes again."""
    channel.reply = lambda _: ZeroDivisionError("of ours")
    assert await deliver(message(), dead_letter_topic="dead") is RETRY
    assert lines.of("defect")


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", "success"), ({"status": "RETRY"}, "retry"), ({"status": "DROP"}, "drop")],
)
async def test_deliveries_are_counted(deliver, channel, count, body, status):
    """Each answered delivery counts once, under what the app said."""
    channel.reply = lambda _: answer(body)
    await deliver(message())
    assert count("dapr_component_pubsub_ingress_count", process_status=status, topic="t", app_id="orders") == 1


# gRPC ----------------------------------------------------------------------------------------------------------------
def _status(status: int) -> bytes:
    return appcallback_pb.TopicEventResponse(status=status).SerializeToString()


LOST = GrpcError(GrpcCode.UNAVAILABLE, "failed to connect to all addresses; connection refused", unreachable=True)


@LETTER
@pytest.mark.parametrize(
    ("reply", "found", "dead_lettered"),
    [
        (b"", ACCEPTED, False), (_status(1), RETRY, True), (_status(2), ACCEPTED, True), (_status(9), RETRY, True),
        (b"\xff\xff garbage", RETRY, True), (GrpcError(GrpcCode.UNIMPLEMENTED, ""), ACCEPTED, False),
        (GrpcError(GrpcCode.INTERNAL, "broken"), RETRY, True), (GrpcError(GrpcCode.UNAVAILABLE, "said so"), RETRY, True),
        (LOST, RELEASED, False), (AppUnreachableError("refused"), RELEASED, False),
    ],
    ids=["success", "retry", "drop", "unknown", "garbage", "unimplemented", "internal", "says unavailable", "refused",
         "unreachable"],
)  # fmt: skip
async def test_what_a_grpc_app_answers(deliver, read, lines, letter, reply, found, dead_lettered):
    """The answers of OnTopicEvent: an app without the method drops silently, garbage is a failure."""
    dead = await read("dead")
    deliver.state.channel = FakeGrpcChannel(OnTopicEvent=reply)
    outcome = await deliver(message(), dead_letter_topic=letter)
    assert outcome is (ACCEPTED if letter and dead_lettered else found)
    if letter and dead_lettered:
        await until(lambda: dead)
    assert bool(dead) is bool(letter and dead_lettered)
    assert not lines.of("defect")


async def test_a_grpc_app_has_a_time_limit(deliver, deliveries):
    """The call has the limit as its deadline; an app that lets it pass has failed."""
    deliveries._timeout = 7.0
    channel = FakeGrpcChannel(OnTopicEvent=GrpcError(GrpcCode.DEADLINE_EXCEEDED, "too late"))
    deliver.state.channel = channel
    assert await deliver(message()) is RETRY
    assert channel.fake.timeouts == [7.0]


async def test_a_grpc_app_gets_the_fields_of_the_event(deliver):
    """Attributes, payload, route and extensions stand in the fields of TopicEventRequest; the trace in the metadata."""
    channel = deliver.state.channel = FakeGrpcChannel(OnTopicEvent=b"")
    body = event({"n": 1}, datacontenttype="application/json", subject="s", traceparent=PARENT, nested={"a": [1]})
    assert await deliver(message(body, k="v"), routes=(("", "/path"),)) is ACCEPTED
    (request,) = channel.events
    assert (request.id, request.source, request.type, request.spec_version) == ("1", "shop", "made", "1.0")
    assert (request.data_content_type, json.loads(request.data)) == ("application/json", {"n": 1})
    assert (request.topic, request.pubsub_name, request.path) == ("t", "ps", "/path")
    extensions = dict(request.extensions.items())
    assert extensions["subject"] == "s"
    assert extensions["nested"]["a"][0] == 1
    assert "data" not in extensions
    metadata = channel.fake.called[0][2]
    assert (metadata["k"], metadata["traceparent"]) == ("v", PARENT)


@pytest.mark.parametrize(
    "body",
    [event({"n": 1}), event(data_base64="%%%"), json.dumps(event()).encode()[:-1] + b',"x":1' + b"0" * 400 + b"}"],
    ids=["data is no text", "no base64", "a number too large"],
)
async def test_an_event_that_no_grpc_app_can_be_sent_is_a_failure(deliver, read, lines, body):
    """An event that contradicts its content type, or does not fit the message, goes to the dead letter as it is."""
    dead = await read("dead")
    deliver.state.channel = FakeGrpcChannel(OnTopicEvent=b"")
    assert await deliver(message(body), dead_letter_topic="dead") is ACCEPTED
    await until(lambda: dead)
    assert not lines.of("defect")


async def test_dead_letters_go_where_the_app_may_publish(deliver, components, channel, read, lines):
    """A dead letter for a topic outside the app's publishing scope is not published: the message comes again, and it is told."""
    secret = await read("secret")
    components.opened["ps"].runtime_metadata["publishingscopes"] = "orders=t"
    channel.reply = lambda _: answer(status=404)
    assert await deliver(message(), dead_letter_topic="secret") is RETRY
    assert not secret
    assert any("may not publish" in str(line) for line in lines.lines)
