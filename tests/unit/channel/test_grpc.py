"""The channel to gRPC apps, against real servers on loopback."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest

from dapr_shared._proto import common_pb, rpc_pb, wellknown_pb
from dapr_shared.channel.base import ChannelConfigurationError, ChannelProperties, HealthProperties
from dapr_shared.channel.grpc import GrpcAppChannel
from dapr_shared.contracts.grpc_status import HTTP_STATUS
from dapr_shared.contracts.invocation import (
    AppNotHealthyError,
    AppTimeoutError,
    AppUnreachableError,
    ChannelError,
)
from dapr_shared.core.errors import GrpcCode
from dapr_shared.core.ids import AppRef
from dapr_shared.resources.model import ChannelTls
from dapr_shared.wire.http.messages import BodyTooLargeError
from tests.support.app_servers import raw_server, until
from tests.support.grpc_apps import GrpcApp, grpc_server
from tests.support.ports import free_port

REF = AppRef("orders")


@asynccontextmanager
async def channel(port: int, *, protocol="grpc", max_concurrency=0, health=None, **options):
    properties = ChannelProperties(protocol, "127.0.0.1", port, max_concurrency, health)
    async with AsyncExitStack() as stack:
        made = GrpcAppChannel(REF, properties, **options)
        await made.start(stack)
        yield made
    assert made.concurrency == 0


async def test_a_call_becomes_oninvoke_and_its_answer_a_response(call):
    """Method, verb, query, body, content type and headers arrive as AppCallback.OnInvoke; the answer comes back."""
    app = GrpcApp(initial=(("x-first", "1"), ("x-bin", b"\x00\xff")), trailers=(("x-last", "2"),))
    async with grpc_server(app) as port, channel(port, api_token="secret") as orders:
        headers = [(b"x-h", b"v"), (b"x-raw-bin", b"\x00\x01"), (b"dapr-api-token", b"forged"), (b"user-agent", b"u")]
        answer = await orders.invoke(call("a b/c", "PATCH", b"x=%20", headers, b"\x00body", b"application/json"))
    ((request, metadata),) = app.seen
    assert (request.method, request.data.value, request.content_type) == ("a b/c", b"\x00body", "application/json")
    assert request.http_extension.verb == common_pb.HTTPExtension.PATCH
    assert request.http_extension.querystring == "x=%20"
    assert (metadata["x-h"], metadata["x-raw-bin"], metadata["dapr-api-token"]) == ("v", b"\x00\x01", "secret")
    assert (answer.status, answer.body, answer.content_type) == (200, b"ok", b"text/plain")
    assert answer.grpc_status == (GrpcCode.OK, "", b"")
    assert (b"x-first", b"1") in answer.headers
    assert (b"x-bin", b"\x00\xff") in answer.headers
    assert (b"x-last", b"2") in answer.trailers


async def test_what_grpc_cannot_carry_is_left_out(call):
    """Headers with values or names that gRPC refuses do not make the call fail; without a token none is sent."""
    app = GrpcApp()
    headers = [(b"x-caf", b"caf\xe9"), (b"x-tab", b"a\tb"), (b"x!y", b"1"), (b"x-ok", b"1"), (b"dapr-api-token", b"f")]
    async with grpc_server(app) as port, channel(port) as orders:
        assert (await orders.invoke(call(verb="BREW", headers=headers))).status == 200
    ((request, metadata),) = app.seen
    assert request.http_extension.verb == common_pb.HTTPExtension.NONE
    assert metadata["x-ok"] == "1"
    assert not {"x-caf", "x-tab", "x!y", "dapr-api-token"} & set(metadata)


async def test_a_method_that_is_not_utf8_cannot_be_sent(call):
    """A path with bytes that are no UTF-8 is refused with a reason; gRPC has no way to carry it."""
    async with grpc_server(GrpcApp()) as port, channel(port) as orders:
        with pytest.raises(ChannelError, match="cannot be sent over gRPC"):
            await orders.invoke(call("\udcff"))


class Upload:
    content_length = None

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def read(self, limit: int) -> bytes:
        if len(self.body) > limit:
            raise BodyTooLargeError(f"the body is longer than {limit} bytes")
        return self.body


async def test_a_streamed_body_is_read_up_to_the_limit(call):
    """A gRPC app gets a body in one message; one over the limit is the caller's error and never reaches the app."""
    app = GrpcApp()
    async with grpc_server(app) as port, channel(port, body_bytes=100_000) as orders:
        assert (await orders.invoke(call(body=Upload(b"x" * 100_000)))).status == 200
        with pytest.raises(BodyTooLargeError):
            await orders.invoke(call(body=Upload(b"x" * 100_001)))
    assert [len(request.data.value) for request, _ in app.seen] == [100_000]


async def test_a_slow_sender_holds_no_slot(call):
    """While a streamed body is still coming, other calls of the app go on."""

    class Slow(Upload):
        async def read(self, limit: int) -> bytes:
            assert orders.concurrency == 0
            assert (await orders.invoke(call())).status == 200
            return await super().read(limit)

    async with grpc_server(GrpcApp()) as port, channel(port, max_concurrency=1) as orders:
        assert (await orders.invoke(call(body=Slow(b"x")), timeout=5)).status == 200


@pytest.mark.parametrize("code", [code for code in GrpcCode if code is not GrpcCode.OK])
async def test_a_status_of_the_app_is_an_answer(call, code):
    """Every gRPC status of the app comes back with Dapr's HTTP status and the Status as JSON, UNAVAILABLE too."""
    status = next(status for status in grpc.StatusCode if status.value[0] == code)
    app = GrpcApp(status=(status, 'no "luck"'), trailers=(("x-last", "2"),))
    async with grpc_server(app) as port, channel(port) as orders:
        answer = await orders.invoke(call())
    assert answer.status == HTTP_STATUS[code]
    assert answer.content_type == b"application/json"
    assert json.loads(answer.body) == {"code": int(code), "message": 'no "luck"'}
    assert answer.grpc_status == (code, 'no "luck"', b"")
    assert answer.trailers == [(b"x-last", b"2")]


async def test_details_of_a_status_come_along(call):
    """google.rpc details are in the JSON, those of the app's own types as bytes; gRPC callers get them as they were."""
    info = rpc_pb.ErrorInfo(reason="OUT_OF_TEA", domain="orders", metadata={"a": "b"})
    known = wellknown_pb.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info.SerializeToString())
    own = wellknown_pb.Any(type_url="type.googleapis.com/orders.v1.Tea", value=b"\x01\x02")
    status = rpc_pb.Status(code=5, message="gone", details=[known, own]).SerializeToString()
    app = GrpcApp(status=(grpc.StatusCode.NOT_FOUND, "gone"), trailers=(("grpc-status-details-bin", status),))
    async with grpc_server(app) as port, channel(port) as orders:
        answer = await orders.invoke(call())
    assert answer.grpc_status == (GrpcCode.NOT_FOUND, "gone", status)
    assert json.loads(answer.body)["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "OUT_OF_TEA",
            "domain": "orders",
            "metadata": {"a": "b"},
        },
        {"@type": "type.googleapis.com/orders.v1.Tea", "value": "AQI="},
    ]


async def test_broken_details_do_not_hide_the_status(call):
    """A status whose details cannot be read is still that status."""
    app = GrpcApp(status=(grpc.StatusCode.ABORTED, "x"), trailers=(("grpc-status-details-bin", b"\xff\xff"),))
    async with grpc_server(app) as port, channel(port) as orders:
        answer = await orders.invoke(call())
    assert (answer.status, json.loads(answer.body)) == (409, {"code": 10, "message": "x"})


async def test_a_refused_connection_says_so_and_is_reported(call):
    """Nobody listens: AppUnreachableError in the words of a dial, and the watcher hears of it."""
    port = free_port()
    async with channel(port) as orders:
        heard: list[None] = []
        orders.on_unreachable = lambda: heard.append(None)
        with pytest.raises(AppUnreachableError, match=rf"^dial tcp 127.0.0.1:{port}: connection refused$"):
            await orders.invoke(call())
        assert heard == [None]


async def test_a_name_that_does_not_resolve_is_unreachable(call):
    """An unknown host name is a failed dial too."""
    async with AsyncExitStack() as stack:
        orders = GrpcAppChannel(REF, ChannelProperties("grpc", "no-such-host.invalid", 80))
        await orders.start(stack)
        with pytest.raises(AppUnreachableError, match=r"dial tcp no-such-host\.invalid:80: "):
            await orders.invoke(call(), timeout=5)


async def test_an_app_lost_with_the_call_on_its_way_is_no_unreachable(call):
    """The connection breaks after the call was sent: it may have been carried out, so it is not said to be safe."""

    async def drop(reader, writer):
        await reader.read(10)
        # SETTINGS, so that the connection counts as made; then the call comes, and the end.
        writer.write(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        received = b""
        while b"OnInvoke" not in received and len(received) < 150:
            received += await reader.read(1000)

    async with raw_server(drop) as port, channel(port) as orders:
        with pytest.raises(ChannelError) as caught:
            await orders.invoke(call(body=b"x" * 500), timeout=5)
    assert type(caught.value) is ChannelError


async def test_an_app_that_speaks_no_grpc_is_a_channel_error(call):
    """Garbage instead of HTTP/2 is an error in time, not a hang."""

    async def nonsense(reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with raw_server(nonsense) as port, channel(port) as orders:
        with pytest.raises(ChannelError):
            await orders.invoke(call(), timeout=5)


async def test_an_answer_that_is_no_invokeresponse_is_a_channel_error(call):
    """An app that answers OnInvoke with other bytes is named."""
    async with grpc_server(GrpcApp(raw_answer=b"\xff\xff\xff")) as port, channel(port) as orders:
        with pytest.raises(ChannelError, match="the answer of OnInvoke is not an InvokeResponse"):
            await orders.invoke(call())


async def test_an_app_that_hangs_is_a_timeout(call):
    """No answer in time: AppTimeoutError with the limit; an app's own DEADLINE_EXCEEDED is an answer (see above)."""
    async with grpc_server(GrpcApp(hold=asyncio.Event())) as port, channel(port) as orders:
        with pytest.raises(AppTimeoutError, match=rf"no answer from 127.0.0.1:{port} within 0.1 s"):
            await orders.invoke(call(), timeout=0.1)


async def test_an_app_that_restarts_on_its_port_is_called_again_at_once(call):
    """When the watcher says that the port is open again, gRPC's back-off is not waited for."""
    port = free_port()
    async with channel(port) as orders:
        for _ in range(2):
            async with grpc_server(GrpcApp(), port=port):
                orders.reached()
                assert (await orders.invoke(call())).status == 200
            with pytest.raises(ChannelError):
                await orders.invoke(call())


async def test_maxconcurrency_holds(call):
    """Calls over the limit wait for a slot."""
    app = GrpcApp(hold=asyncio.Event())
    async with grpc_server(app) as port, channel(port, max_concurrency=2) as orders:
        calls = [asyncio.create_task(orders.invoke(call())) for _ in range(5)]
        await until(lambda: app.busy == 2 and orders.waiting == 3)
        app.hold.set()
        assert {answer.status for answer in await asyncio.gather(*calls)} == {200}


@pytest.mark.parametrize(("healthy", "status"), [(True, "OK"), (False, "INTERNAL"), (None, "UNIMPLEMENTED")])
async def test_a_health_probe_calls_healthcheck_without_the_token(healthy, status):
    """Any error is unhealthy, also that the app does not implement the check; no token is sent."""
    app = GrpcApp(healthy=healthy)
    async with grpc_server(app) as port, channel(port, health=HealthProperties(), api_token="secret") as orders:
        answer = await orders.probe_health()
    assert (answer.healthy, answer.status) == (healthy is True, status)
    assert all("dapr-api-token" not in metadata for metadata in app.probed)


async def test_a_health_probe_of_a_silent_or_absent_app_is_unhealthy(call):
    """No answer in time and nobody there: unhealthy without a status; calls are refused meanwhile."""
    health = HealthProperties(timeout=0.1)
    async with grpc_server(GrpcApp(hold=asyncio.Event())) as port, channel(port, health=health) as orders:
        assert not await orders.check_health()
        with pytest.raises(AppNotHealthyError):
            await orders.invoke(call())
    async with channel(free_port(), health=health) as orders:
        assert (await orders.probe_health()).status == ""


async def test_the_proxy_gets_the_connection_and_the_token():
    """`client` is the app's connection, `metadata_for_app` its token; a closed channel has no connection."""
    async with grpc_server(GrpcApp()) as port, channel(port, api_token="secret") as orders:
        answer = await orders.client.unary("/dapr.proto.runtime.v1.AppCallbackHealthCheck/HealthCheck", b"")
        assert answer.data == b""
        assert orders.metadata_for_app() == (("dapr-api-token", "secret"),)
    with pytest.raises(AppUnreachableError):
        _ = orders.client


async def test_closing_lets_calls_in_flight_finish(call):
    """Closing waits for what runs; after its grace what is left fails."""
    app = GrpcApp(hold=asyncio.Event())
    async with grpc_server(app) as port:
        async with channel(port) as orders:
            running = asyncio.create_task(orders.invoke(call()))
            await until(lambda: app.busy == 1)
            closing = asyncio.create_task(orders.aclose(5))
            await asyncio.sleep(0)
            app.hold.set()
            assert (await running).status == 200
            await closing
        app.hold.clear()
        async with channel(port) as orders:
            running = asyncio.create_task(orders.invoke(call()))
            await until(lambda: app.busy == 1)
            await orders.aclose(0.05)
            with pytest.raises(ChannelError):
                await running


def server_credentials(certificates, *, client_ca=None):
    pair = (certificates.key.read_bytes(), certificates.cert.read_bytes())
    roots = client_ca.read_bytes() if client_ca else None
    return grpc.ssl_server_credentials([pair], roots, require_client_auth=client_ca is not None)


async def test_grpcs_verifies_and_shows_its_certificate(call, certificates):
    """With grpcs the channel checks the app's certificate against the caFile and gives the client's own."""
    credentials = server_credentials(certificates, client_ca=certificates.ca)
    files = {"cert_file": str(certificates.client_cert), "key_file": str(certificates.client_key)}
    good = ChannelTls(ca_file=str(certificates.ca), server_name="app.test", **files)
    async with grpc_server(GrpcApp(), credentials=credentials) as port:
        async with channel(port, protocol="grpcs", tls=good) as orders:
            assert (await orders.invoke(call(), timeout=5)).status == 200
        for bad in (None, ChannelTls(ca_file=str(certificates.ca), server_name="other.test", **files)):
            async with channel(port, protocol="grpcs", tls=bad) as orders:
                with pytest.raises(AppUnreachableError):
                    await orders.invoke(call(), timeout=5)


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (ChannelTls(ca_file="/nowhere/ca.pem"), "channel.tls.caFile: cannot read /nowhere/ca.pem: No such file"),
        (ChannelTls(cert_file="/nowhere/c.pem"), "certFile and keyFile are given together"),
    ],
)
async def test_unusable_tls_files_are_named_at_the_start(tls, message):
    """A channel whose certificate files cannot be read does not start."""
    with pytest.raises(ChannelConfigurationError, match=message):
        async with channel(1, protocol="grpcs", tls=tls):
            pass
