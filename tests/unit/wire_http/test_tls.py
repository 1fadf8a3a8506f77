"""The same wire over TLS: server and client with a certificate of the test's own."""

from __future__ import annotations

import ssl
import subprocess

import pytest

from dapr_shared.wire.http.client import ConnectError, HttpClient
from dapr_shared.wire.http.messages import Response
from tests.support.required import need_command


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """A server's context, and a client's that trusts it."""
    openssl = need_command("openssl", "openssl")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=app", "-addext", "subjectAltName=DNS:app.example", "-keyout", "key.pem", "-out", "cert.pem"],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return server, ssl.create_default_context(cafile=str(folder / "cert.pem"))


async def test_requests_over_tls(running, contexts):
    """Small and large bodies, kept connections and drains work over TLS; the certificate is checked against the name."""

    async def echo(request):
        return Response(200, [], request.body)

    async with running(echo, ssl=contexts[0]) as server:
        port = int(server.address.rpartition(":")[2])
        client = HttpClient("https", "127.0.0.1", port, ssl=contexts[1], server_name="app.example")
        for size in (0, 5, 3_000_000):
            answer = await client.request("POST", b"/", [], b"x" * size, timeout=10)
            body = answer.body if isinstance(answer.body, bytes) else await answer.body.read(size)
            assert body == b"x" * size
        assert client.connections == 1
        await client.aclose()
        wrong = HttpClient("https", "127.0.0.1", port, ssl=contexts[1], server_name="other.example")
        with pytest.raises(ConnectError):
            await wrong.request("GET", b"/", [])
        assert wrong.connections == 0
        await server.drain(5)
