"""An app that is back sooner than the watch would look is missed all the same, and asked again what it wants."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support import restarting_app
from tests.support.apps import until
from tests.support.block_apps import GrpcBindingApp, grpc_binding_app
from tests.support.instance import Instance, app, component, environment, free_ports, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON = 8.0
"""Seconds in which a restart must have been seen: well before the next regular look, 15 s after the last."""


@contextmanager
def process(folder: Path, port: int, *names: str) -> Iterator[Path]:
    """The app on this port, killed at the end; gives what it writes."""
    output = folder / f"calls-of-{'-'.join(names) or 'nothing'}"
    output.touch()
    words = [sys.executable, restarting_app.__file__, str(port), str(output), *names]
    running_app = subprocess.Popen(words, env=environment(folder), stdin=subprocess.DEVNULL)
    try:
        yield output
    finally:
        running_app.kill()
        running_app.wait(10)


def await_missed(instance: Instance, lines: int) -> None:
    """Wait until the app is known to be away, as told after so many lines of the log."""
    until(lambda: "app is not reachable" in {line["msg"] for line in instance.log()[lines:]}, SOON)


def test_an_http_app_that_goes_is_missed_at_once(tmp_path):
    """Killed without a call to it, it is missed at once; started with other wishes, its bindings and subscriptions are those."""
    (port,) = free_ports(1)
    resources = [app("orders", port), component("tick", "bindings.cron", schedule="@every 50ms")]
    with running(tmp_path, resources=resources) as instance:
        with process(tmp_path, port) as before:
            until(lambda: {"GET /dapr/subscribe", "OPTIONS /tick"} <= set(before.read_text().splitlines()))
            lines = len(instance.log())
        await_missed(instance, lines)
        with process(tmp_path, port, "tick") as after:
            until(lambda: {"GET /dapr/subscribe", "POST /tick"} <= set(after.read_text().splitlines()), SOON)


def test_a_grpc_app_that_goes_is_missed_at_once(tmp_path):
    """The same over gRPC, whose one connection is lost: nothing calls the app, and it is missed and asked anew."""
    (port,) = free_ports(1)
    before, after = GrpcBindingApp(), GrpcBindingApp(wants=["tick"])
    resources = [app("orders", port, protocol="grpc"), component("tick", "bindings.cron", schedule="@every 50ms")]
    with running(tmp_path, resources=resources) as instance:
        with grpc_binding_app(before, port):
            instance.wait_for_line("input binding not wanted by the app")
            lines = len(instance.log())
        await_missed(instance, lines)
        with grpc_binding_app(after, port):
            until(lambda: after.got, SOON)
