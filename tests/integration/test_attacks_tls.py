"""Attempts to be app `stock` over TLS without being it; each is refused, and what makes it meaningful works."""

from __future__ import annotations

import socket
import ssl
import time

import grpc
import pytest

from tests.support.instance import app, running, token_of
from tests.support.tls_calls import get, grpc_metadata
from tests.support.tls_certificates import Authority

STOCK, ORDERS = "spiffe://test/ns/default/sa/stock", "spiffe://test/ns/default/sa/orders"
TARGET = "/v1.0/metadata"


class World:
    """An instance that requires certificates, one where they are optional, and the certificates of everybody."""

    def __init__(self, folder):
        self.authority = Authority(folder / "ca")
        other = Authority(folder / "other")
        issue = self.authority.issue
        self.server = issue("server", server=True)
        self.stock = issue("stock", uris=[STOCK])
        self.orders = issue("orders", uris=[ORDERS])
        self.by_dns = issue("dns", dns=["Stock.internal"])
        self.by_fingerprint = issue("fingerprint")
        self.both = issue("both", uris=[STOCK, ORDERS])
        self.expired = issue("expired", uris=[STOCK], hours=-1)
        self.nobody = issue("nobody", uris=[STOCK + "/more"], dns=["x.stock.internal", "*.internal"], common_name=STOCK)
        self.name_in_other_kind = issue("kind", dns=[ORDERS], uris=["stock.internal"])
        self.forged = other.issue("stock", uris=[STOCK])
        self.as_server = issue("as-server", uris=[STOCK], server=True)
        self.apps = [
            app(
                "stock",
                certificates=[
                    {"spiffeId": STOCK},
                    {"dnsName": "stock.internal"},
                    {"sha256": self.by_fingerprint.fingerprint},
                ],
            ),
            app("orders", certificates=[{"spiffeId": ORDERS}]),
        ]

    def flags(self, *more):
        return [*self.server.flags(), f"--tls-client-ca={self.authority.file}", *more]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("tls"))
    folder = tmp_path_factory.mktemp("instances")
    with (
        running(folder / "required", *made.flags(), resources=made.apps) as made.required,
        running(folder / "optional", *made.flags("--tls-client-auth=optional"), resources=made.apps) as made.optional,
    ):
        yield made


def _get(world, pair, headers=None, instance=None):
    return get((instance or world.required).http_port, TARGET, world.authority.client(pair), headers)


def _grpc(world, pair, metadata=None, instance=None):
    return grpc_metadata((instance or world.required).grpc_port, world.authority.file, pair, metadata)


@pytest.mark.parametrize("name", ["stock", "by_dns", "by_fingerprint"])
def test_a_certificate_proves_its_app(world, name):
    """A SPIFFE id, a DNS name and a fingerprint prove their app over HTTP and gRPC, alone and with its token."""
    pair = getattr(world, name)
    for headers in ({}, {"dapr-api-token": token_of("stock")}):
        status, body = _get(world, pair, headers)
        assert (status, b'"id":"stock"' in body) == (200, True), body
        assert _grpc(world, pair, headers) == (grpc.StatusCode.OK, "stock")


@pytest.mark.parametrize(
    ("name", "token", "reason"),
    [
        ("stock", "orders", "evidence_disagrees"),
        ("orders", "stock", "evidence_disagrees"),
        ("both", "", "evidence_disagrees"),
        ("both", "stock", "evidence_disagrees"),
        ("nobody", "", "unknown_certificate"),
        ("name_in_other_kind", "", "unknown_certificate"),
        ("stock", "unknown", "unknown_token"),
    ],
)
def test_evidence_that_does_not_prove_one_app_is_refused(world, name, token, reason):
    """A certificate of one app with the token of another, of two apps, or of none is refused and counted."""
    headers = {"dapr-api-token": token_of(token)} if token else {}
    before = world.required.refused(reason)
    assert _get(world, getattr(world, name), headers)[0] == 401
    assert _grpc(world, getattr(world, name), headers)[0] is grpc.StatusCode.UNAUTHENTICATED
    assert world.required.refused(reason) == before + 2


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("required", "none"),
        *((mode, name) for mode in ("required", "optional") for name in ("expired", "forged", "as_server")),
    ],
)
def test_a_bad_certificate_ends_at_the_handshake(world, name, mode):
    """An expired certificate, one of another authority, one that is for servers, and where required none at all."""
    instance = getattr(world, mode)
    before = instance.metric("dapr_shared_tls_trouble_total", reason="client_certificate")
    with pytest.raises(OSError):  # noqa: PT011 - how it shows is TLS's matter: an alert or a reset
        _get(world, getattr(world, name, None), {"dapr-api-token": token_of("stock")}, instance)
    deadline = time.monotonic() + 5
    while instance.metric("dapr_shared_tls_trouble_total", reason="client_certificate") <= before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    code, _ = _grpc(world, getattr(world, name, None), {"dapr-api-token": token_of("stock")}, instance)
    assert code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "claims",
    [
        {"x-forwarded-client-cert": f"URI={STOCK}"},
        {"x-ssl-client-verify": "SUCCESS", "x-ssl-client-s-dn": "CN=stock"},
        {"dapr-caller-app-id": "stock"},
        {"dapr-app-id": "stock"},
        {"x-client-cert": "stock", "x-spiffe-id": STOCK},
    ],
)
def test_claims_in_headers_prove_nothing(world, claims):
    """What a proxy would put into a header about a certificate is a claim: with and without one it changes nothing."""
    status, body = _get(world, world.orders, {name: value for name, value in claims.items() if name != "dapr-app-id"})
    assert (status, b'"id":"orders"' in body) == (200, True)
    assert _get(world, None, claims, world.optional)[0] == 401


def test_optional_takes_a_token_in_place_of_a_certificate(world):
    """Where certificates are optional a token proves its app, a certificate does, and a disagreement is refused."""
    token = {"dapr-api-token": token_of("stock")}
    assert _get(world, None, token, world.optional)[0] == 200
    assert _get(world, world.stock, None, world.optional)[0] == 200
    assert _get(world, world.orders, token, world.optional)[0] == 401
    assert _get(world, world.nobody, token, world.optional)[0] == 200
    assert _get(world, None, None, world.optional)[0] == 401
    assert _grpc(world, None, token, world.optional) == (grpc.StatusCode.OK, "stock")
    assert _grpc(world, world.stock, None, world.optional) == (grpc.StatusCode.OK, "stock")
    assert _grpc(world, world.orders, token, world.optional)[0] is grpc.StatusCode.UNAUTHENTICATED
    assert _grpc(world, world.nobody, token, world.optional) == (grpc.StatusCode.OK, "stock")
    assert _grpc(world, None, None, world.optional)[0] is grpc.StatusCode.UNAUTHENTICATED
    assert _grpc(world, None, token, world.optional) == (grpc.StatusCode.OK, "stock")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:.*TLSv1.* is deprecated:DeprecationWarning")
def test_old_versions_of_tls_are_refused(world, version):
    """A client cannot bring the connection down to TLS 1.1 or 1.0; 1.2 is spoken."""
    old = world.authority.client(world.stock)
    old.minimum_version = old.maximum_version = version
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(OSError):  # noqa: PT011
        get(world.required.http_port, TARGET, old)
    twelve = world.authority.client(world.stock, maximum_version=ssl.TLSVersion.TLSv1_2)
    assert get(world.required.http_port, TARGET, twelve)[0] == 200


def test_plain_http_on_a_tls_port_is_told(world):
    """A client without TLS reads what is wrong in a 400, the log says it once a second, and the port goes on."""
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", world.required.http_port), 5) as plain:
            plain.sendall(b"GET /v1.0/metadata HTTP/1.1\r\nhost: x\r\ndapr-api-token: " + token_of("stock").encode())
            plain.sendall(b"\r\n\r\n")
            answer = b""
            while piece := plain.recv(65536):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"use https://" in answer
    line = world.required.wait_for_line("a client spoke plain HTTP to a TLS port: it should use https://")
    assert line["reason"] == "plain_text"
    assert token_of("stock") not in world.required.output()
    assert world.required.metric("dapr_shared_tls_trouble_total", reason="plain_text") >= 20
    assert sum(line.get("reason") == "plain_text" for line in world.required.log()) < 20
    assert _get(world, world.stock)[0] == 200
    with grpc.insecure_channel(f"127.0.0.1:{world.required.grpc_port}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/x/y")(b"", timeout=5)
    assert _grpc(world, world.stock)[0] is grpc.StatusCode.OK


def test_many_silent_clients_do_not_keep_others_out(world):
    """300 connections that begin a handshake and stop are bounded: the oldest go, and an honest client is served."""
    silent = []
    try:
        for _ in range(300):
            connection = socket.create_connection(("127.0.0.1", world.required.http_port), 5)
            connection.sendall(b"\x16\x03\x01")
            silent.append(connection)
        assert _get(world, world.stock)[0] == 200
        deadline = time.monotonic() + 5
        while world.required.metric("dapr_shared_tls_trouble_total", reason="too_many") < 40:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        for connection in silent:
            connection.close()
