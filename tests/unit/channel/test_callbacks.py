"""What an app is asked for pub/sub, and how its answers are read."""

from __future__ import annotations

import json

import pytest

from dapr_shared._proto import appcallback_pb
from dapr_shared.channel.callbacks import (
    AskedSubscription,
    Reply,
    SubscriptionListError,
    deliver_bulk_grpc,
    deliver_bulk_http,
    deliver_grpc,
    deliver_http,
    list_subscriptions,
    reply_of_status,
)
from dapr_shared.contracts.invocation import AppNotHealthyError, AppUnreachableError, ChannelError
from dapr_shared.core.errors import GrpcCode
from dapr_shared.wire.grpc.interface import GrpcError
from tests.support.pubsub_fakes import FakeGrpcChannel, FakeHttpChannel, answer


async def asks(channel) -> list[AskedSubscription]:
    return await list_subscriptions(channel, timeout=1)


async def test_every_field_of_an_entry_is_read():
    """Rules in order with the default last, metadata as text, dead letter and bulk."""
    channel = FakeHttpChannel()
    channel.list = answer(
        [
            {
                "pubsubname": "ps", "topic": "t", "route": "/plain",
                "routes": {"rules": [{"match": "true", "path": "/a"}, {"path": "/b"}], "default": "/c"},
                "metadata": {"k": "v", "n": 1}, "deadLetterTopic": "dead",
                "bulkSubscribe": {"enabled": True, "maxMessagesCount": 5, "maxAwaitDurationMs": 40},
            }
        ]
    )  # fmt: skip
    (found,) = await asks(channel)
    assert found == AskedSubscription(
        "ps", "t", (("true", "/a"), ("", "/b"), ("", "/c")), {"k": "v", "n": "1"}, "dead", True, 5, 40  # noqa: FBT003
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "rules"),
    [
        ({"route": "/a"}, (("", "/a"),)), ({"routes": {"default": "/b"}, "route": "/a"}, (("", "/b"),)),
        ({"routes": {}}, ()), ({"routes": None, "route": "/a"}, (("", "/a"),)), ({}, ()),
        ({"routes": {"rules": None}}, ()), ({"routes": {"rules": [{"match": "m", "path": "/m"}]}}, (("m", "/m"),)),
    ],
)  # fmt: skip
async def test_routes_in_every_form(entry, rules):
    """`routes.default` beats `route`; an entry may have neither."""
    channel = FakeHttpChannel()
    channel.list = answer([entry])
    assert (await asks(channel))[0].rules == rules


@pytest.mark.parametrize("body", [answer(status=404), answer(b""), answer(b"  "), answer(b"null"), answer([])],
                         ids=lambda body: f"{body.status} {body.body}")  # fmt: skip
async def test_an_app_that_wants_nothing(body):
    """404, an empty body, null and an empty list are no subscriptions."""
    channel = FakeHttpChannel()
    channel.list = body
    assert await asks(channel) == []


@pytest.mark.parametrize(
    "body",
    [
        answer(status=500), answer([], 201), answer(b"<html>"), answer({}), answer("x"), answer([1]), answer([None]),
        answer([{"routes": {"rules": 7}}]), answer([{"routes": {"rules": [1]}}]),
        answer([{"routes": {"rules": {"a": 1}}}]),
    ],
    ids=lambda body: f"{body.status} {body.body}",
)  # fmt: skip
async def test_what_is_no_list(body):
    """Any other answer is said to be none, and is not taken for an empty list."""
    channel = FakeHttpChannel()
    channel.list = body
    with pytest.raises(SubscriptionListError):
        await asks(channel)


@pytest.mark.parametrize("odd", [{"metadata": 7}, {"bulkSubscribe": []}, {"routes": "x"}, {"bulkSubscribe": {"enabled": 1,
    "maxMessagesCount": -1, "maxAwaitDurationMs": "x"}}], ids=str)  # fmt: skip
async def test_odd_fields_are_as_if_absent(odd):
    """A field of a wrong type does not cost the whole list."""
    channel = FakeHttpChannel()
    channel.list = answer([{"pubsubname": "ps", "topic": "t", "route": "/r", **odd}])
    (found,) = await asks(channel)
    assert (found.pubsub_name, found.rules, found.bulk_max_messages) == ("ps", (("", "/r"),), 0)


async def test_an_app_that_does_not_answer():
    """Unreachable and unhealthy apps raise, as does a body that breaks off; the slot is given back."""
    channel = FakeHttpChannel(max_concurrency=1)
    channel.present = False
    with pytest.raises(AppUnreachableError):
        await asks(channel)
    channel.present, channel.healthy = True, False
    with pytest.raises(AppNotHealthyError):
        await asks(channel)
    channel.healthy = True

    class Broken:
        content_length = None
        closed = False

        async def read(self, limit):
            raise OSError("cut")

        async def aclose(self):
            self.closed = True

    broken = answer()
    broken.body = Broken()
    channel.list = broken
    with pytest.raises(ChannelError, match="cut"):
        await asks(channel)
    assert channel.concurrency == 0


async def test_a_grpc_app_is_asked():
    """ListTopicSubscriptions in all its fields; a subscription without routes takes everything."""
    made = appcallback_pb.ListTopicSubscriptionsResponse()
    first = made.subscriptions.add(pubsub_name="ps", topic="a", dead_letter_topic="dead", metadata={"k": "v"})
    first.routes.rules.add(match="m", path="/m")
    first.routes.default = "/d"
    first.bulk_subscribe.enabled = True
    first.bulk_subscribe.max_messages_count = 5
    first.bulk_subscribe.max_await_duration_ms = 40
    made.subscriptions.add(pubsub_name="ps", topic="b")
    only_rules = made.subscriptions.add(pubsub_name="ps", topic="c")
    only_rules.routes.rules.add(match="m", path="/m")
    found = await asks(FakeGrpcChannel(ListTopicSubscriptions=made.SerializeToString()))
    assert found[0] == AskedSubscription("ps", "a", (("m", "/m"), ("", "/d")), {"k": "v"}, "dead", True, 5, 40)  # noqa: FBT003
    assert found[1].rules == (("", ""),)
    assert found[2].rules == (("m", "/m"),)


@pytest.mark.parametrize("wrong", [b"\xff\xff garbage", GrpcError(GrpcCode.INTERNAL, "broken")])
async def test_a_grpc_apps_wrong_list(wrong):
    """Garbage and errors are no list; an app without the method wants nothing; a lost one raises."""
    with pytest.raises(SubscriptionListError):
        await asks(FakeGrpcChannel(ListTopicSubscriptions=wrong))
    assert await asks(FakeGrpcChannel()) == []
    gone = GrpcError(GrpcCode.UNAVAILABLE, "failed to connect to all addresses", unreachable=True)
    with pytest.raises(AppUnreachableError):
        await asks(FakeGrpcChannel(ListTopicSubscriptions=gone))


async def test_a_connection_lost_midway_is_not_unreachable():
    """Only a connection that was never made says that the app has seen nothing."""
    cut = GrpcError(GrpcCode.UNAVAILABLE, "Socket closed", unreachable=True)
    with pytest.raises(ChannelError) as lost:
        await deliver_grpc(FakeGrpcChannel(OnTopicEvent=cut), appcallback_pb.TopicEventRequest(), [])
    assert not isinstance(lost.value, AppUnreachableError)


async def test_an_event_is_posted():
    """POST to the route without its slash, as a CloudEvent, with the given headers."""
    channel = FakeHttpChannel()
    assert await deliver_http(channel, "/a/b", b"{}", [(b"x", b"y")]) == (Reply.SUCCESS, "")
    (request,) = channel.delivered
    assert (request.verb, request.method, request.body) == ("POST", "a/b", b"{}")
    assert (request.content_type, request.headers) == (b"application/cloudevents+json", [(b"x", b"y")])


@pytest.mark.parametrize(
    ("number", "reply"), [(0, Reply.SUCCESS), (1, Reply.RETRY), (2, Reply.DROP), (3, Reply.RETRY), (-1, Reply.RETRY)]
)
def test_statuses_of_grpc(number, reply):
    """The numbers of TopicEventResponseStatus; an unknown one is a retry."""
    assert reply_of_status(number)[0] is reply


async def test_a_long_status_is_cut_for_the_log():
    """An app's own words are repeated up to a bound."""
    channel = FakeHttpChannel()
    channel.reply = lambda _: answer({"status": "x" * 10_000})
    reply, words = await deliver_http(channel, "/", b"", [])
    assert reply is Reply.RETRY
    assert len(words) < 200


async def test_bulk_replies_are_of_the_entries():
    """Only entries that were sent count, and only SUCCESS and DROP are other than a retry."""
    channel = FakeHttpChannel()
    statuses = [("a", "SUCCESS"), ("b", "DROP"), ("c", "success"), ("z", "SUCCESS")]
    channel.reply = lambda _: answer({"statuses": [{"entryId": e, "status": s, "more": 1} for e, s in statuses]})
    found = await deliver_bulk_http(channel, "/b", b"{}", ["a", "b", "c", "d"], [])
    assert found == {"a": Reply.SUCCESS, "b": Reply.DROP, "c": Reply.RETRY, "d": Reply.RETRY}
    assert json.loads(channel.delivered[0].body) == {}


async def test_bulk_over_grpc_falls_back_to_alpha_only_when_unimplemented():
    """An error of the stable method is an answer; the alpha method is not asked then."""
    request = appcallback_pb.TopicEventBulkRequest()
    request.entries.add(entry_id="a")
    channel = FakeGrpcChannel(OnBulkTopicEvent=GrpcError(GrpcCode.ABORTED, ""))
    assert await deliver_bulk_grpc(channel, request, []) == {"a": Reply.RETRY}
    assert [name for name, _, _ in channel.fake.called] == ["OnBulkTopicEvent"]
    channel = FakeGrpcChannel()
    assert await deliver_bulk_grpc(channel, request, []) == {"a": Reply.DROP_SILENTLY}
    assert [name for name, _, _ in channel.fake.called] == ["OnBulkTopicEvent", "OnBulkTopicEventAlpha1"]
