"""Invocation as streams: large bodies in constant memory, events as they come, the hand-shakes of HTTP/1.1."""

from __future__ import annotations

import hashlib
import socket
import time

import pytest

from tests.support.apps import echo_app, until
from tests.support.calls import connect, read_answer, request_bytes
from tests.support.instance import app, component, running, token_of

MIB = 1 << 20
SIZE = 64 * MIB
ROOM = 40 * MIB
"""What the resident memory of the instance may grow by while such a body passes."""
AUTHORIZED = ("dapr-api-token", token_of("orders"))


@pytest.fixture(scope="module")
def stock():
    with echo_app() as made:
        yield made


@pytest.fixture(scope="module")
def instance(stock, tmp_path_factory):
    resources = [app("orders"), app("stock", stock.port), component("statestore", "state.in-memory")]
    with running(tmp_path_factory.mktemp("streaming"), "--max-body-size=128Mi", resources=resources) as made:
        yield made


def _request(path: str, *headers, method: str = "POST") -> bytes:
    return request_bytes(method, f"/v1.0/invoke/stock/method/{path}", headers=[AUTHORIZED, *headers])


def _receive(made: socket.socket, size: int, highest) -> int:
    """Read a body of `size` bytes behind a head; the highest memory seen meanwhile."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += made.recv(65536)
    left = size - len(data.partition(b"\r\n\r\n")[2])
    top, seen = highest(), 0
    while left > 0:
        piece = made.recv(1 << 18)
        assert piece, f"ended {left} bytes early"
        left -= len(piece)
        seen += len(piece)
        if seen > 4 * MIB:
            top, seen = max(top, highest()), 0
    return top


def test_a_large_request_is_streamed(instance):
    """64 MiB go to the app unchanged while the instance grows by less than 40 MiB."""
    before, top = instance.memory(), 0
    piece, digest = bytes(range(256)) * 4096, hashlib.sha256()
    with connect(instance.http) as made:
        made.sendall(_request("sink", ("content-length", str(SIZE))))
        for _ in range(SIZE // len(piece)):
            made.sendall(piece)
            digest.update(piece)
            top = max(top, instance.memory())
        answer = read_answer(made)
    assert answer.json() == {"size": SIZE, "sha256": digest.hexdigest()}
    assert max(top, instance.memory()) - before < ROOM


def test_a_large_chunked_request_is_streamed(instance):
    """The same in chunks of a length that nobody told."""
    before, top = instance.memory(), 0
    piece = bytes(MIB)
    with connect(instance.http) as made:
        made.sendall(_request("sink", ("transfer-encoding", "chunked")))
        for _ in range(SIZE // MIB):
            made.sendall(b"%x\r\n%b\r\n" % (MIB, piece))
            top = max(top, instance.memory())
        made.sendall(b"0\r\n\r\n")
        assert read_answer(made).json()["size"] == SIZE
    assert max(top, instance.memory()) - before < ROOM


@pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
def test_a_large_answer_is_streamed(instance, length):
    """64 MiB come back while the instance grows by less than 40 MiB, with a length where the app told one."""
    before = instance.memory()
    with connect(instance.http) as made:
        made.sendall(_request(f"big/{SIZE}", *([("x-length", "1")] if length else []), method="GET"))
        top = _receive(made, SIZE, instance.memory)
    assert top - before < ROOM


def test_a_slow_reader_is_waited_for(instance):
    """A caller that does not read stops the app's stream; the instance does not hold the rest in memory."""
    before = instance.memory()
    with connect(instance.http) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        made.sendall(_request(f"big/{SIZE}", method="GET"))
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            assert instance.memory() - before < ROOM
            time.sleep(0.05)
        _receive(made, SIZE, instance.memory)


def test_both_ways_at_once(instance):
    """An app that answers while it reads is heard while the caller still sends."""
    with connect(instance.http) as made:
        made.sendall(_request("pipe", ("transfer-encoding", "chunked")))
        made.sendall(b"4\r\none \r\n")
        data = b""
        while b"one " not in data:
            data += made.recv(65536)
        made.sendall(b"4\r\ntwo \r\n")
        while b"two " not in data:
            data += made.recv(65536)
        made.sendall(b"0\r\n\r\n")
        while not data.endswith(b"0\r\n\r\n"):
            data += made.recv(65536)
        assert data.startswith(b"HTTP/1.1 200 ")


def test_events_are_flushed_one_by_one(instance, stock):
    """Each server-sent event reaches the caller before the app sends the next."""
    with connect(instance.http) as made:
        made.sendall(_request("sse/5", ("accept", "text/event-stream"), method="GET"))
        data = b""
        for number in range(5):
            stock.events.release()
            while b"data: %d\n\n" % number not in data:
                piece = made.recv(65536)
                assert piece
                data += piece
        assert b"content-type: text/event-stream" in data.lower()
        while not data.endswith(b"0\r\n\r\n"):
            data += made.recv(65536)


def test_continue_is_asked_for_and_given(instance):
    """A caller that expects 100-continue gets it before it sends the body, and then the app's answer."""
    with connect(instance.http) as made:
        made.sendall(_request("sink", ("expect", "100-continue"), ("content-length", "5")))
        interim = b""
        while not interim.endswith(b"\r\n\r\n"):
            interim += made.recv(1)
        assert interim.startswith(b"HTTP/1.1 100 ")
        made.sendall(b"hello")
        assert read_answer(made).json()["size"] == 5


def test_no_continue_for_whom_nobody_proves(instance):
    """A caller that proves no app is refused without being asked for its body."""
    with connect(instance.http) as made:
        made.sendall(
            request_bytes(
                "POST", "/v1.0/invoke/stock/method/sink",
                headers=[("expect", "100-continue"), ("content-length", "1000000")],
            )
        )  # fmt: skip
        assert read_answer(made).status == 401


def test_a_caller_that_goes_away_ends_the_call(instance, stock):
    """When the caller disconnects, the app's request is cancelled and the instance forgets the call."""
    cancelled = stock.cancelled
    with connect(instance.http) as made:
        made.sendall(_request("hang", method="GET"))
        until(lambda: stock.hanging)
    until(lambda: stock.cancelled == cancelled + 1)
    until(lambda: not stock.hanging)
    assert instance.ask("GET", "/v1.0/invoke/stock/method/x", app="orders").status == 200


def test_a_caller_that_goes_away_while_it_sends(instance, stock):
    """A request that ends early reaches the app as an aborted one, never as a whole one."""
    for _ in range(3):
        with connect(instance.http) as made:
            made.sendall(_request("sink", ("content-length", "1000000")) + bytes(1000))
            until(lambda: stock.seen[-1].path == "/sink")
    answer = instance.ask("POST", "/v1.0/invoke/stock/method/sink", b"whole", app="orders")
    assert answer.json()["size"] == 5


def test_a_caller_that_goes_away_while_it_receives(instance):
    """Callers that leave in the middle of an answer harm nobody, and cost no memory."""
    before = instance.memory()
    for _ in range(5):
        with connect(instance.http) as made:
            made.sendall(_request(f"big/{SIZE}", method="GET"))
            assert made.recv(65536)
    for _ in range(5):
        assert instance.ask("GET", "/v1.0/invoke/stock/method/x", app="orders").status == 200
    assert instance.memory() - before < ROOM


def test_a_large_state_value(instance):
    """A state value of many megabytes is saved and read back unchanged where the limit allows it."""
    value = b'"' + b"x" * (20 * MIB) + b'"'
    body = b'[{"key":"large","value":' + value + b"}]"
    assert instance.ask("POST", "/v1.0/state/statestore", body, app="orders").status == 204
    assert instance.ask("GET", "/v1.0/state/statestore/large", app="orders").body == value
