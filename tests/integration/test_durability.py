"""The end of a process: nothing that was acknowledged is lost, nothing that was accepted fails."""

from __future__ import annotations

import threading
import time
from signal import Signals

import grpc
import pytest

from dapr_shared._proto import common_pb, runtime_pb
from tests.support.apps import echo_app, until
from tests.support.calls import KeptConnection, ask, call, grpc_channel
from tests.support.instance import app, component, running, start, token_of

HEADER = [("dapr-api-token", token_of("orders"))]


def _store(tmp_path) -> dict:
    return component("store", "state.sqlite", connectionString=str(tmp_path / "state.db"))


class Writers:
    """Clients that write without a pause until the instance is gone, and remember what was acknowledged."""

    def __init__(self, instance, count: int) -> None:
        self.acknowledged: list[str] = []
        self.unanswered = 0
        self._instance = instance
        kinds = (self._http, self._grpc)
        self._threads = [threading.Thread(target=kinds[n % 2], args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for all."""
        for thread in self._threads:
            thread.join()

    def _http(self, number: int) -> None:
        kept = KeptConnection(self._instance.http)
        try:
            for turn in range(1_000_000):
                key = f"h{number}-{turn}"
                try:
                    answer = kept.ask(
                        "POST", "/v1.0/state/store", b'[{"key":"%s","value":1}]' % key.encode(), headers=HEADER
                    )
                except OSError:
                    self.unanswered += 1
                    return
                assert answer.status == 204, answer
                self.acknowledged.append(key)
        finally:
            kept.close()

    def _grpc(self, number: int) -> None:
        with grpc_channel(self._instance.grpc) as channel:
            for turn in range(1_000_000):
                key = f"g{number}-{turn}"
                request = runtime_pb.SaveStateRequest(
                    store_name="store", states=[common_pb.StateItem(key=key, value=b"1")]
                )
                answer = call(channel, "SaveState", request, HEADER)
                if answer.code is not grpc.StatusCode.OK:
                    self.unanswered += 1
                    return
                self.acknowledged.append(key)


def test_a_killed_instance_loses_no_acknowledged_write(tmp_path):
    """After kill -9 under load every write that was acknowledged is there when the instance runs again."""
    resources = [app("orders"), _store(tmp_path)]
    first = start(tmp_path, resources=resources)
    writers = Writers(first, 8)
    try:
        until(lambda: len(writers.acknowledged) > 400)
    finally:
        first.process.kill()
        first.wait()
        writers.join()
    assert writers.unanswered == 8
    with running(tmp_path, resources=resources) as second:
        keys = writers.acknowledged
        found: dict[str, object] = {}
        for at in range(0, len(keys), 500):
            body = ('{"keys":["' + '","'.join(keys[at : at + 500]) + '"]}').encode()
            items = second.ask("POST", "/v1.0/state/store/bulk", body, app="orders").json()
            found |= {item["key"]: item.get("data") for item in items}
        lost = [key for key in keys if found.get(key) != 1]
        assert not lost, f"{len(lost)} of {len(keys)} acknowledged writes are lost"


@pytest.mark.parametrize("engine", ["http2", "aio"])
@pytest.mark.parametrize("number", [Signals.SIGTERM, Signals.SIGINT])
def test_a_signal_under_load_fails_no_accepted_request(tmp_path, engine, number):  # noqa: C901 - its clients are in it
    """16 clients on kept connections, HTTP and gRPC: a signal ends the instance with 0 and fails nothing it accepted."""
    failures: list[object] = []
    counts = [0] * 16
    stopping = threading.Event()
    with echo_app() as callee:
        resources = [app("orders", callee.port), _store(tmp_path)]
        with running(tmp_path, f"--grpc-engine={engine}", resources=resources) as instance:

            def by_http(n: int) -> None:
                kept = KeptConnection(instance.http)
                try:
                    while True:
                        target = "/v1.0/invoke/orders/method/x" if n % 4 else "/v1.0/state/store/k"
                        try:
                            answer = kept.ask("GET", target, headers=HEADER)
                        except OSError as error:
                            # Closed before the request was accepted: told by the answer before it, or idle.
                            if not stopping.is_set():
                                failures.append(error)
                            return
                        if answer.status not in (200, 204):
                            failures.append(answer)
                            return
                        counts[n] += 1
                        if answer.header("connection") == "close":
                            return
                finally:
                    kept.close()

            def by_grpc(n: int) -> None:
                request = runtime_pb.GetStateRequest(store_name="store", key="k")
                with grpc_channel(instance.grpc) as channel:
                    while True:
                        answer = call(channel, "GetState", request, HEADER)
                        if answer.code is grpc.StatusCode.UNAVAILABLE and stopping.is_set():
                            return  # not accepted
                        if answer.code is not grpc.StatusCode.OK:
                            failures.append(answer)
                            return
                        counts[n] += 1

            threads = [threading.Thread(target=by_http if n < 10 else by_grpc, args=(n,)) for n in range(16)]
            for thread in threads:
                thread.start()
            until(lambda: min(counts) >= 10)
            stopping.set()
            started = time.monotonic()
            assert instance.stop(number) == 0
            assert time.monotonic() - started < 5
            for thread in threads:
                thread.join()
    assert not failures, failures


def test_a_request_in_flight_is_finished(tmp_path):
    """A request that an app still works on when SIGTERM comes gets its answer, and nobody new is accepted meanwhile."""
    answers: list[object] = []
    with echo_app() as callee, running(tmp_path, resources=[app("orders", callee.port)]) as instance:
        waiting = threading.Thread(
            target=lambda: answers.append(instance.ask("GET", "/v1.0/invoke/orders/method/hang", app="orders"))
        )
        waiting.start()
        until(lambda: callee.hanging)
        instance.signal(Signals.SIGTERM)
        instance.wait_for_line("stopping")

        def refused() -> bool:
            try:
                return ask(instance.http, "GET", "/v1.0/healthz").status in (0, 503)
            except OSError:
                return True

        until(refused)
        assert not answers
        callee.gate.set()
        assert instance.wait() == 0
        waiting.join()
    assert [answer.status for answer in answers] == [200]


def test_the_grace_ends(tmp_path):
    """A request that outlasts --dapr-graceful-shutdown-seconds is ended, the log says so, and the exit code is 1."""
    with echo_app() as callee, running(
        tmp_path, "--dapr-graceful-shutdown-seconds=1", resources=[app("orders", callee.port)]
    ) as instance:  # fmt: skip
        waiting = threading.Thread(target=lambda: instance.ask("GET", "/v1.0/invoke/orders/method/hang", app="orders"))
        waiting.start()
        until(lambda: callee.hanging)
        started = time.monotonic()
        assert instance.stop() == 1
        assert 0.8 < time.monotonic() - started < 5
        assert [line for line in instance.log() if line["msg"].startswith("drain timed out")]
        waiting.join()


@pytest.mark.parametrize(("number", "code"), [(Signals.SIGINT, 0), (Signals.SIGTERM, 1)])
def test_a_second_signal_ends_at_once(tmp_path, number, code):
    """A second signal does not wait for what is in flight."""
    with echo_app() as callee, running(
        tmp_path, "--dapr-graceful-shutdown-seconds=60", resources=[app("orders", callee.port)]
    ) as instance:  # fmt: skip
        waiting = threading.Thread(target=lambda: instance.ask("GET", "/v1.0/invoke/orders/method/hang", app="orders"))
        waiting.start()
        until(lambda: callee.hanging)
        instance.signal(Signals.SIGTERM)
        instance.wait_for_line("stopping")
        started = time.monotonic()
        instance.signal(number)
        assert instance.wait() == code
        assert time.monotonic() - started < 2
        waiting.join()


@pytest.mark.parametrize("number", [Signals.SIGINT, Signals.SIGTERM])
def test_an_idle_instance_ends_in_under_a_second(tmp_path, number):
    """With idle connections open, a signal ends it with 0 in under a second."""
    with running(tmp_path, resources=[app("orders"), _store(tmp_path)]) as instance:
        kept = KeptConnection(instance.http)
        with grpc_channel(instance.grpc) as channel:
            assert kept.ask("GET", "/v1.0/healthz").status == 204
            assert call(channel, "GetMetadata", b"", HEADER).code is grpc.StatusCode.OK
            started = time.monotonic()
            assert instance.stop(number) == 0
            assert time.monotonic() - started < 1.5  # a loaded machine; idle it takes a tenth
        kept.close()


def test_block_shutdown(tmp_path):
    """With --dapr-block-shutdown-duration the API stays up after a signal for so long."""
    with running(tmp_path, "--dapr-block-shutdown-duration=1s", app_id="orders") as instance:
        instance.signal(Signals.SIGTERM)
        instance.wait_for_line("stopping")
        assert ask(instance.http, "GET", "/v1.0/metadata").status == 200
        started = time.monotonic()
        assert instance.wait() == 0
        assert 0.5 < time.monotonic() - started < 4
