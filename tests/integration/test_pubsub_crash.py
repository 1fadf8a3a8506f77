"""Killed processes lose no message: instance, app or both end by SIGKILL at random points under load.

Publishers note every message that was acknowledged; the app notes on its disk every message before it accepts it. In
the end the two must agree. `CRASH_SECONDS` sets how long the longer test goes on, `CRASH_SEED` repeats its choices
(which process, when, for how long; not the machine's own timing).
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from signal import Signals
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from dapr_shared._proto import runtime_pb
from tests.support import accounts, recording_app
from tests.support.apps import until
from tests.support.calls import KeptConnection, call, grpc_channel
from tests.support.instance import app, command, environment, free_ports, start, token_of
from tests.support.recording_app import PUBSUB, TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.instance import Instance

HEADERS = [("dapr-api-token", token_of("publisher")), ("content-type", "application/json")]
BULK = 10
"""Messages of one bulk publish."""
PACE = 0.01
"""Seconds between two publishes of one publisher: load, but no more than the app can take on two busy cores."""
REPEATED = 400
"""Messages that one kill may repeat: 100 in flight of each topic, and as many whose acceptance was not yet written."""
LEAST_KILLS = 2
DRAIN = 120.0
"""Seconds that deliveries may take after the last kill; failed messages wait for their turn."""


class Publishers:
    """Clients that publish until they are told to stop, over all three ways, and note what was acknowledged."""

    def __init__(self, crash: Crash) -> None:
        self.acknowledged: list[str] = []
        self.tried: list[str] = []
        """All that were sent. Where the call broke off, nobody was promised anything: delivered or not, both is right."""
        self.refused: list[object] = []
        """Answers that are neither, and calls that a living instance left open: there must be none."""
        self._crash = crash
        self._stop = threading.Event()
        ways = (self._by_http, self._by_http, self._by_bulk, self._by_grpc)
        self._threads = [threading.Thread(target=self._work, args=(n, way)) for n, way in enumerate(ways)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End them."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int, way: Callable[[Instance], Iterator[None]]) -> None:
        threading.current_thread().name = f"p{number}"
        while not self._stop.is_set():
            try:
                instance = self._crash.instance
                for _ in way(instance):
                    if self._stop.wait(PACE):
                        return
            except OSError as error:
                if isinstance(error, TimeoutError) and instance.process.poll() is None:
                    self.refused.append(f"process {instance.process.pid} lives and gave no answer: {error}")
                self._stop.wait(0.05)  # the instance is down: connect anew

    def _by_http(self, instance: Instance) -> Iterator[None]:
        kept = KeptConnection(instance.http)
        try:
            for name in self._names():
                self.tried.append(name)
                answer = kept.ask("POST", f"/v1.0/publish/{PUBSUB}/{TOPICS[0]}", _body(name), headers=HEADERS)
                self._note([name], answer.status == 204, answer)
                yield
        finally:
            kept.close()

    def _by_bulk(self, instance: Instance) -> Iterator[None]:
        kept = KeptConnection(instance.http)
        names = self._names()
        try:
            while True:
                some = [next(names) for _ in range(BULK)]
                entries = b",".join(
                    b'{"entryId":"%s","contentType":"application/json","event":%s}' % (name.encode(), _body(name))
                    for name in some
                )
                self.tried.extend(some)
                answer = kept.ask(
                    "POST", f"/v1.0/publish/bulk/{PUBSUB}/{TOPICS[1]}", b"[%s]" % entries, headers=HEADERS
                )
                self._note(some, answer.status == 204, answer)
                yield
        finally:
            kept.close()

    def _by_grpc(self, instance: Instance) -> Iterator[None]:
        with grpc_channel(instance.grpc) as channel:
            for name in self._names():
                request = runtime_pb.PublishEventRequest(
                    pubsub_name=PUBSUB, topic=TOPICS[1], data=_body(name), data_content_type="application/json"
                )
                self.tried.append(name)
                answer = call(channel, "PublishEvent", request, HEADERS[:1])
                if answer.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    raise ConnectionResetError
                if answer.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise TimeoutError("gRPC")
                self._note([name], answer.code is grpc.StatusCode.OK, answer)
                yield

    def _names(self) -> Iterator[str]:
        thread = threading.current_thread().name
        while True:
            self._crash.number += 1  # a number that two threads take still makes two names
            yield f"{thread}-{time.monotonic_ns()}-{self._crash.number}"

    def _note(self, names: list[str], acknowledged: bool, answer: object) -> None:  # noqa: FBT001
        if acknowledged:
            self.acknowledged.extend(names)
        else:
            self.refused.append(answer)


def _body(name: str) -> bytes:
    return b'{"id":"%s"}' % name.encode()


class Crash:
    """An instance, an app and publishers, and what is done to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.number = 0
        self.kills: Counter[str] = Counter()
        self._folder = folder
        self._random = random.Random(seed)
        self._port = free_ports(1)[0]
        self._app: subprocess.Popen[bytes] | None = None
        self.instance = self._start_instance()
        self._start_app()

    def one(self) -> None:
        """Kill one or both at some point, and start them again."""
        chance = self._random
        _pause(chance.uniform(0.1, 1.2))
        what = chance.choice(["instance", "app", "both"])
        self.kills[what] += 1
        instance_dies, app_dies = what != "app", what != "instance"
        if instance_dies:
            self._end_instance()
        if app_dies:
            self._end_app()
        _pause(chance.uniform(0, 0.8))
        app_first = chance.random() < 0.5
        if app_dies and app_first:
            self._start_app()
        if instance_dies and chance.random() < 0.3:
            self._kill_a_start()
        if instance_dies:
            self.instance = self._start_instance()
        if app_dies and not app_first:
            _pause(chance.uniform(0, 0.5))
            self._start_app()

    def accepted(self) -> list[str]:
        """What the app has accepted, in its own words."""
        try:
            return (self._folder / "accepted").read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return []

    def subscriptions(self) -> list[dict[str, Any]]:
        """The subscriptions of the app, as the instance sees them."""
        answer = self.instance.ask("GET", "/v1.0/metadata", app="subscriber")
        assert answer.status == 200, answer
        return answer.json().get("subscriptions", [])

    def drained(self) -> bool:
        """Whether both topics are subscribed to and nothing waits."""
        found = {one["topic"]: (one["state"], one.get("pending")) for one in self.subscriptions()}
        return found == dict.fromkeys(TOPICS, ("active", 0))

    def close(self) -> None:
        """End both."""
        self._end_app()
        if self.instance.process.poll() is None:
            self.instance.close()

    def kill(self) -> None:
        """End both, whatever state they are in."""
        self._end_app()
        self.instance.process.kill()
        self.instance.process.wait()

    def _start_instance(self) -> Instance:
        resources = [app("publisher"), app("subscriber", self._port)]
        return start(self._folder / "instance", "--data-dir", str(self._folder / "data"), resources=resources)

    def _kill_a_start(self) -> None:
        """Start an instance and kill it at once, perhaps while it takes over what the one before it has left."""
        self.kills["start"] += 1
        ports = free_ports(3)
        flags = ("--dapr-http-port", "--dapr-grpc-port", "--metrics-port")
        words = [f"{flag}={port}" for flag, port in zip(flags, ports, strict=True)]
        folder = self._folder / "instance"
        words += ["--apps", str(folder / "resources"), "--data-dir", str(self._folder / "data")]
        process = subprocess.Popen(
            command("run", *words),
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _pause(self._random.uniform(0.2, 1.0))
        process.kill()
        assert process.wait() == -Signals.SIGKILL, "it ended by itself"

    def _end_instance(self) -> None:
        assert self.instance.process.poll() is None, self.instance.output()
        self.instance.process.kill()
        self.instance.wait()
        assert not [line for line in self.instance.log() if line["msg"] == "defect"], self.instance.output()
        assert "Traceback" not in self.instance.output(), self.instance.output()

    def _start_app(self) -> None:
        def started() -> bool:
            if self._app is None or self._app.poll() is not None:  # the port was somebody's for a moment
                words = [sys.executable, recording_app.__file__, str(self._port), str(self._folder)]
                with (self._folder / "app.log").open("ab") as log:
                    self._app = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                return False
            return self._app.poll() is None

        until(started)

    def _end_app(self) -> None:
        if self._app is not None:
            self._app.kill()
            self._app.wait()
            self._app = None


def _pause(seconds: float) -> None:
    """Let a random time pass: the point of a kill is to come at no particular point."""
    time.sleep(seconds)


@dataclass(frozen=True)
class Account:
    """What became of the messages."""

    published: int
    delivered: int
    duplicated: int
    lost: int
    unanswered_delivered: int
    unknown: int
    kills: dict[str, int]


def _account(publishers: Publishers, accepted: list[str], kills: Counter[str]) -> Account:
    published = set(publishers.acknowledged)
    open_calls = set(publishers.tried) - published
    delivered = set(accepted)
    return Account(
        published=len(published),
        delivered=len(delivered),
        duplicated=len(accepted) - len(delivered),
        lost=len(published - delivered),
        unanswered_delivered=len(delivered & open_calls),
        unknown=len(delivered - published - open_calls),
        kills=dict(kills),
    )


def crash_for(folder: Path, seconds: float, seed: int) -> Account:
    """Publish, kill and start again for so long; then let everything be delivered, and account for it."""
    crash = Crash(folder, seed)
    with ExitStack() as stack:
        stack.callback(crash.kill)
        publishers = Publishers(crash)
        stack.callback(publishers.stop)
        end = time.monotonic() + seconds
        while time.monotonic() < end or crash.kills.total() < LEAST_KILLS:  # a busy machine takes longer
            had = len(publishers.acknowledged)
            until(lambda had=had: len(publishers.acknowledged) > had)  # it works before it is killed again
            crash.one()
        publishers.stop()
        until(crash.drained, DRAIN)
        assert not publishers.refused, publishers.refused[:3]
        stack.pop_all()
    crash.close()
    return _account(publishers, crash.accepted(), crash.kills)


def _check(request: pytest.FixtureRequest, tmp_path: Path, seconds: float, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(10**6))
    with capsys.disabled():
        print(f"\nCRASH_SEED={seed}", flush=True)  # noqa: T201 - a failure is repeated with it
    account = crash_for(tmp_path, seconds, seed)
    all_told = account.delivered + account.duplicated
    accounts.Account(account.published, all_told, account.duplicated, account.lost).settle(request, least=1)
    assert account.unknown == 0
    assert account.delivered == account.published + account.unanswered_delivered
    kills = sum(account.kills.values())
    assert kills >= LEAST_KILLS
    assert account.duplicated <= kills * REPEATED


def test_killed_processes_lose_no_message(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every acknowledged message is accepted by the app, over a few kills of the instance, the app, or both."""
    _check(request, tmp_path, 10.0, capsys)


@pytest.mark.slow
def test_killed_processes_lose_no_message_for_long(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same for `CRASH_SECONDS`, 120 unless told otherwise."""
    _check(request, tmp_path, float(os.environ.get("CRASH_SECONDS") or 120), capsys)
