"""A peer that is not there, dies midway or comes back: what its callers see."""

from __future__ import annotations

import hashlib
import threading
import time
from signal import SIGKILL

import pytest

from tests.support.apps import echo_app, until
from tests.support.calls import connect, request_bytes
from tests.support.instance import app, free_ports, running, start, token_of
from tests.support.mesh import finds_peers_at, internal

TOKEN = ("dapr-api-token", token_of("orders"))


@pytest.fixture(scope="module")
def web():
    with echo_app() as made:
        yield made


@pytest.fixture(scope="module")
def port():
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def caller(port, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caller")
    with running(folder, finds_peers_at(folder, port), resources=[app("orders")]) as made:
        yield made


@pytest.fixture
def peer(web, port, tmp_path):
    def make():
        return start(tmp_path, *internal(port), resources=[app("web", web.port)])

    return make


def _later(instance, method, path, body=None):
    """Ask in a thread; the list gets the answer."""
    answers: list = []
    thread = threading.Thread(
        target=lambda: answers.append(instance.ask(method, f"/v1.0/invoke/web/method/{path}", body, app="orders"))
    )
    thread.start()
    return thread, answers


def test_a_peer_that_comes_back(caller, peer):
    """Calls made while a peer is away succeed when it is back within three seconds, a streamed body among them."""
    body = bytes(1_000_000)
    small, small_answer = _later(caller, "POST", "sink", b"abc")
    large, large_answer = _later(caller, "POST", "sink", body)
    until(lambda: caller.metric("dapr_shared_calls_in_flight", app_id="orders") == 2)
    made = peer()
    small.join()
    large.join()
    assert small_answer[0].json() == {"size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    assert large_answer[0].json() == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    made.close()


def test_a_peer_that_is_not_there(caller):
    """After three retries, a second apart, the caller is told which address refused."""
    started = time.monotonic()
    answer = caller.ask("GET", "/v1.0/invoke/web/method/a", app="orders")
    assert 3.0 <= time.monotonic() - started < 8.0
    assert (answer.status, answer.code) == (500, "ERR_DIRECT_INVOKE")
    assert "failed to invoke target web after 3 retries" in answer.json()["message"]
    assert "code = Unavailable" in answer.json()["message"]


def test_a_peer_that_dies_midway(caller, peer, web):
    """An answer that was broken off is broken off for the caller as well, and never looks complete."""
    made = peer()
    with connect(caller.http) as connection:
        connection.sendall(request_bytes("GET", "/v1.0/invoke/web/method/sse/3", headers=[TOKEN]))
        web.events.release()
        received = b""
        while b"data: 0" not in received:
            received += connection.recv(65536)
        made.stop(SIGKILL)
        while piece := connection.recv(65536):
            received += piece
    assert not received.endswith(b"0\r\n\r\n")
    web.events.release(2)


def test_a_peer_that_stops_lets_calls_end(caller, peer, web):
    """A peer that is stopped answers the calls that it has; new ones go to who takes its place."""
    made = peer()
    web.gate.clear()
    waiting, answers = _later(caller, "GET", "hang")
    until(lambda: web.hanging)
    stopping = threading.Thread(target=made.close)
    stopping.start()
    made.wait_for_line("stopping")
    web.gate.set()
    waiting.join()
    stopping.join()
    assert (answers[0].status, answers[0].body) == (200, b"late")
