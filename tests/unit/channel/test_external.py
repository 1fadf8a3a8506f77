"""Services outside: absolute URLs and HTTPEndpoint resources."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from dapr_shared.channel.base import ChannelConfigurationError
from dapr_shared.channel.external import ExternalConnections, HttpTarget
from dapr_shared.channel.tls import endpoint_context
from dapr_shared.contracts.invocation import AppUnreachableError
from tests.support.app_servers import HttpApp, raw_server, until
from tests.support.ports import free_port


@asynccontextmanager
async def connections(**options):
    async with AsyncExitStack() as stack:
        made = ExternalConnections(**options)
        await made.start(stack)
        yield made


async def test_a_call_goes_to_the_base_url(call):
    """Base path, method and query make the target; answers come back as they are, redirects too."""
    app = HttpApp(status=302, headers=[("location", "/elsewhere"), ("content-type", "a/b")], body=b"there")
    async with raw_server(app) as port, connections() as outside:
        target = HttpTarget(f"http://127.0.0.1:{port}/v1/", outside)
        answer = await target.invoke(call("a b", "GET", b"x=1"))
    assert (app.seen[0].method, app.seen[0].target) == ("GET", "/v1/a%20b?x=1")
    assert (answer.status, answer.body, answer.content_type) == (302, b"there", b"a/b")


async def test_no_token_ever_leaves_and_the_host_is_the_services_own(call):
    """An app's token never goes outside, and the caller's host header does not either."""
    app = HttpApp()
    async with raw_server(app) as port, connections() as outside:
        target = HttpTarget(f"http://localhost:{port}", outside)
        await target.invoke(call(headers=[(b"dapr-api-token", b"secret"), (b"host", b"us"), (b"x-h", b"v")]))
    (seen,) = app.seen
    assert seen.header("dapr-api-token") == []
    assert seen.header("host") == [f"localhost:{port}"]
    assert seen.header("x-h") == ["v"]


async def test_an_endpoints_headers_replace_the_callers(call):
    """The configured headers are set over what the caller sent, the content type among them."""
    app = HttpApp()
    headers = [("X-Key", "ours"), ("Content-Type", "ours/type"), ("Authorization", "Bearer ours")]
    async with raw_server(app) as port, connections() as outside:
        target = HttpTarget(f"http://u:p@127.0.0.1:{port}", outside, headers=headers)
        theirs = [(b"x-key", b"theirs"), (b"x-key", b"again"), (b"authorization", b"theirs")]
        await target.invoke(call(headers=theirs, content_type=b"their/type"))
    (seen,) = app.seen
    assert seen.header("x-key") == ["ours"]
    assert seen.header("content-type") == ["ours/type"]
    assert seen.header("authorization") == ["Bearer ours"]


async def test_user_and_password_of_the_url_become_basic_authorization(call):
    """As in Go; they replace what the caller sent."""
    app = HttpApp()
    async with raw_server(app) as port, connections() as outside:
        target = HttpTarget(f"http://us%65r:p%40ss@127.0.0.1:{port}", outside)
        await target.invoke(call(headers=[(b"authorization", b"theirs")]))
    assert app.seen[0].header("authorization") == ["Basic dXNlcjpwQHNz"]


@pytest.mark.parametrize(
    "url",
    ["", "orders", "/path", "ftp://host", "http://", "http://host:0", "http://host:99999", "http://host:x", "http://h?q=1",
     "http://h#f", "http://h ost", "http://h\n", "http://[::1", "http://h/é", "HTTP//h", "http://a..b", "http://" + "x" * 64 + ".test"],
)  # fmt: skip
async def test_what_is_no_base_url_is_refused(url):
    """Only absolute http and https URLs without query and fragment are targets."""
    async with connections() as outside:
        with pytest.raises(ChannelConfigurationError):
            HttpTarget(url, outside)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://Example.test", ("http", "example.test", 80)),
        ("HTTPS://example.test/a/", ("https", "example.test", 443)),
        ("http://[::1]:8080", ("http", "::1", 8080)),
        ("http://bücher.test", ("http", "xn--bcher-kva.test", 80)),
    ],
)
async def test_origins_are_normalised(url, origin):
    """Scheme and host in lower case, the default port filled in, names in their ASCII form."""
    async with connections() as outside:
        assert HttpTarget(url, outside).origin == origin


async def test_a_refused_connection_says_so(call):
    """Nobody listens: AppUnreachableError in the words of a dial."""
    port = free_port()
    async with connections() as outside:
        with pytest.raises(AppUnreachableError, match=rf"dial tcp 127.0.0.1:{port}: connection refused"):
            await HttpTarget(f"http://127.0.0.1:{port}", outside).invoke(call())


async def test_targets_of_one_origin_share_connections(call):
    """Two base URLs of one origin use one pool."""
    app = HttpApp()
    async with raw_server(app) as port, connections() as outside:
        for path in ("a", "b"):
            await HttpTarget(f"http://127.0.0.1:{port}/{path}", outside).invoke(call())
        assert app.connections == 1
        assert len(outside) == 1


async def test_the_origin_not_called_for_longest_makes_room_and_its_calls_finish(call):
    """Origins are bounded; the evicted one's call in flight and streamed answer are not cut."""
    slow, streaming, other = HttpApp(hold=asyncio.Event()), HttpApp(chunks=[b"a" * 500_000, b"b"]), HttpApp()
    async with (
        raw_server(slow) as slow_port,
        raw_server(streaming) as streaming_port,
        raw_server(other) as other_port,
        connections(origins=1) as outside,
    ):
        running = asyncio.create_task(HttpTarget(f"http://127.0.0.1:{slow_port}", outside).invoke(call()))
        await until(lambda: slow.busy == 1)
        streamed = await HttpTarget(f"http://127.0.0.1:{streaming_port}", outside).invoke(call())
        assert (await HttpTarget(f"http://127.0.0.1:{other_port}", outside).invoke(call())).status == 200
        assert len(outside) == 1
        slow.hold.set()
        assert (await running).status == 200
        assert len(await streamed.body.read(1_000_000)) == 500_001
        await until(lambda: not outside._leaving)


def server_context(certificates, *, client_ca=None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_certificates_are_verified(call, certificates):
    """Without TLS settings the system's certificates decide: a self-made authority is refused."""
    async with raw_server(HttpApp(), ssl=server_context(certificates)) as port, connections() as outside:
        with pytest.raises(AppUnreachableError, match=r"(?i)certificate verify failed"):
            await HttpTarget(f"https://localhost:{port}", outside).invoke(call())


async def test_an_endpoints_own_tls_is_used(call, certificates, monkeypatch):
    """rootCA, certificate and private key of the endpoint's clientTLS, from PEM texts."""
    context = endpoint_context(
        certificates.ca.read_text(), certificates.client_cert.read_text(), certificates.client_key.read_text()
    )
    real = asyncio.get_running_loop().getaddrinfo

    async def resolve(host, *arguments, **options):
        return await real("127.0.0.1" if host == "app.test" else host, *arguments, **options)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    server = server_context(certificates, client_ca=certificates.ca)
    async with raw_server(HttpApp(), ssl=server) as port, connections() as outside:
        target = HttpTarget(f"https://app.test:{port}", outside, context=context)
        assert (await target.invoke(call())).status == 200


@pytest.mark.parametrize(
    ("texts", "field"), [(("junk", "", ""), "rootCA"), (("", "junk", "junk"), "certificate, privateKey")]
)
def test_unusable_tls_of_an_endpoint_is_named(texts, field):
    """PEM texts that are none are a configuration error that names the field, not the text."""
    with pytest.raises(ChannelConfigurationError, match=f"clientTLS.{field}") as caught:
        endpoint_context(*texts)
    assert "junk" not in str(caught.value)
