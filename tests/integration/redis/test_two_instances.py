"""Two instances, real processes, on one Redis share an app's messages; either may be killed and nothing is lost."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support import recording_app
from tests.support.accounts import Account
from tests.support.apps import until
from tests.support.calls import KeptConnection
from tests.support.instance import app, component, free_ports, start, token_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.instance import Instance

HEADERS = [("dapr-api-token", token_of("publisher")), ("content-type", "application/json")]
TARGET = f"/v1.0/publish/{recording_app.PUBSUB}/{recording_app.TOPICS[0]}"


class Publisher(threading.Thread):
    """Publishes to one instance or the other, whichever answers, and notes what was acknowledged."""

    def __init__(self, name: str, instances: list[Instance]) -> None:
        super().__init__(name=name)
        self.acknowledged: list[str] = []
        self.ended = threading.Event()
        self._instances = instances
        self.start()

    def run(self) -> None:
        number = 0
        while not self.ended.is_set():
            try:
                with closing(KeptConnection(random.choice(self._instances).http)) as kept:
                    while not self.ended.wait(0.005):
                        number += 1
                        text = f"{self.name}-{number}"
                        if kept.ask("POST", TARGET, b'{"id":"%s"}' % text.encode(), headers=HEADERS).status == 204:
                            self.acknowledged.append(text)
            except OSError:
                self.ended.wait(0.05)


def launch(folder: Path, name: str, resources: list[dict]) -> Instance:
    return start(folder / name, "--data-dir", str(folder / name / "data"), resources=resources)


@pytest.mark.slow
def test_two_instances_share_and_lose_nothing(request, tmp_path, own_server):
    """Both instances deliver to the app; each is killed twice under load; every acknowledged message is accepted."""
    server = own_server("--appendonly", "yes", "--appendfsync", "always")
    (port,) = free_ports(1)
    words = [sys.executable, recording_app.__file__, str(port), str(tmp_path)]
    subscriber = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    quick = {"processingTimeout": "2s", "redeliverInterval": "200"}
    resources = [
        app("publisher"),
        app("subscriber", port),
        component(recording_app.PUBSUB, "pubsub.redis", redisHost=server.address, **quick),
    ]
    accepted = tmp_path / "accepted"
    instances = [launch(tmp_path, name, resources) for name in ("one", "two")]
    publishers = [Publisher(f"p{number}", instances) for number in range(3)]
    try:
        until(
            lambda: (
                server.command("XINFO", "CONSUMERS", recording_app.TOPICS[0], "subscriber").count("subscriber/") == 2
            )
        )
        for turn in range(4):
            victim = turn % 2
            instances[victim].process.kill()
            instances[victim].process.wait()
            time.sleep(random.uniform(0.2, 1.0))
            instances[victim] = launch(tmp_path, f"{('one', 'two')[victim]}-{turn}", resources)
            time.sleep(random.uniform(0.2, 0.8))
        for publisher in publishers:
            publisher.ended.set()
            publisher.join()
        acknowledged = {text for publisher in publishers for text in publisher.acknowledged}
        deadline = time.monotonic() + 60
        while (missing := acknowledged - set(accepted.read_text().split())) and time.monotonic() < deadline:
            time.sleep(0.2)
        delivered = accepted.read_text().split()
        twice = len(delivered) - len(set(delivered))
        Account(len(acknowledged), len(delivered), twice, len(missing)).settle(request)
    finally:
        for publisher in publishers:
            publisher.ended.set()
            publisher.join()
        for instance in instances:
            instance.process.kill()
            instance.process.wait()
        subscriber.kill()
        subscriber.wait()
